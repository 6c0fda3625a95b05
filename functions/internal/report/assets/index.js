// The accounts of a run: found by name, or narrowed to those that need a person, or have keys of a kind.
(() => {
  'use strict';
  const $ = id => document.getElementById(id);
  const rows = [...document.querySelectorAll('#accounts tbody tr')];
  const names = rows.map(row => row.textContent.toLowerCase());
  function show() {
    const q = $('q').value.trim().toLowerCase(), which = $('which').value;
    let shown = 0;
    rows.forEach((row, i) => {
      const fits = names[i].includes(q) && (!which || row.dataset.is.split(' ').includes(which));
      row.hidden = !fits;
      if (fits) shown++;
    });
    $('status').textContent = shown === rows.length ? `${rows.length.toLocaleString('en')} accounts` : `${shown.toLocaleString('en')} of ${rows.length.toLocaleString('en')} accounts`;
  }
  // The address after # narrows the list: the numbers above it lead there.
  function readHash() {
    const which = new URLSearchParams(location.hash.slice(1)).get('which');
    if (![...$('which').options].some(o => o.value === which)) return false;
    $('which').value = which;
    return true;
  }
  for (const element of document.querySelectorAll('.scripted')) element.hidden = false;
  document.querySelector('form.tools').addEventListener('submit', event => event.preventDefault()); // Enter in the field
  $('q').addEventListener('input', show);
  $('which').addEventListener('change', show);
  addEventListener('hashchange', () => { if (readHash()) { show(); $('list').scrollIntoView(); } });
  readHash();
  show();
})();
