// The accounts of a run: found by name, or narrowed to those that need a person.
(() => {
  'use strict';
  const $ = id => document.getElementById(id);
  const rows = [...document.querySelectorAll('#accounts tbody tr')];
  const names = rows.map(row => row.textContent.toLowerCase());
  function show() {
    const q = $('q').value.trim().toLowerCase(), which = $('which').value;
    let shown = 0;
    rows.forEach((row, i) => {
      const fits = names[i].includes(q) && (!which || row.dataset.need);
      row.hidden = !fits;
      if (fits) shown++;
    });
    $('status').textContent = shown === rows.length ? `${rows.length.toLocaleString('en')} accounts` : `${shown.toLocaleString('en')} of ${rows.length.toLocaleString('en')} accounts`;
  }
  for (const element of document.querySelectorAll('.scripted')) element.hidden = false;
  $('q').addEventListener('input', show);
  $('which').addEventListener('change', show);
  show();
})();
