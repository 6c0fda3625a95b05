// The keys of an account: filtered, sorted and grouped here, and drawn as they are needed.
// What the cloud sent only ever becomes text: nothing here takes a string for markup.
(() => {
  'use strict';
  const $ = id => document.getElementById(id);
  const data = JSON.parse($('data').textContent);
  const ID = 0, USER = 1, ACTIVE = 2, CREATED = 3, END = 4, USED = 5, CLASS = 6, FATE = 7, WHY = 8, MORE = 9;
  const rows = data.rows, day = 86400, now = data.now, n = rows.length;
  const CHUNK = 40, PRINTED = 20000;
  const table = $('keys'), controls = ['q', 'user', 'class', 'fate', 'age', 'expires', 'active', 'group', 'sort'];

  // Users by their names, so that sorting compares numbers.
  const names = [...new Set(rows.map(r => r[USER]))].sort();
  const rank = new Map(names.map((name, i) => [name, i]));
  const userOf = Int32Array.from(rows, r => rank.get(r[USER]));
  let texts = null;
  const textOf = i => (texts ??= rows.map(r =>
    (r[ID] + '\n' + r[USER] + '\n' + data.classes[r[CLASS]] + '\n' + data.fates[r[FATE]].name + '\n' + r[WHY] + '\n' + r[MORE]).toLowerCase()))[i];

  // A sort key and a place share one number of 53 bits: dates end at year 3871 here.
  const never = 6.5e10, bounded = t => Math.min(t, 6e10) || never;
  const sorts = {
    need: i => rows[i][FATE] * 64 + rows[i][CLASS], user: i => userOf[i], created: i => bounded(rows[i][CREATED]),
    expires: i => bounded(rows[i][END]), used: i => rows[i][USED], class: i => rows[i][CLASS],
  };
  const orders = {};
  const order = by => (orders[by] ??= Uint32Array.from(Float64Array.from({ length: n }, (_, i) => sorts[by](i) * 131072 + i).sort(), v => v % 131072));

  const ages = { '1': [0, 1], '7': [1, 7], '30': [7, 30], '90': [30, 90], '180': [90, 180], '365': [180, 365], more: [365, Infinity] };
  function tests() {
    const v = Object.fromEntries(controls.map(id => [id, $(id).value]));
    const list = [];
    const q = v.q.trim().toLowerCase(), user = v.user.trim().toLowerCase();
    if (v.class) { const c = +v.class; list.push(i => rows[i][CLASS] === c); }
    if (v.fate === 'need') list.push(i => data.fates[rows[i][FATE]].need);
    else if (v.fate === 'plan') list.push(i => data.fates[rows[i][FATE]].plan);
    else if (v.fate) { const some = v.fate.split(',').map(Number); list.push(i => some.includes(rows[i][FATE])); }
    if (v.active) { const a = +v.active; list.push(i => rows[i][ACTIVE] === a); }
    if (v.age === 'unknown') list.push(i => !rows[i][CREATED]);
    else if (v.age) { const [from, to] = ages[v.age]; list.push(i => { const a = Math.max(0, now - rows[i][CREATED]) / day; return rows[i][CREATED] && a >= from && a < to; }); }
    if (v.expires === 'never') list.push(i => !rows[i][END]);
    else if (v.expires === 'past') list.push(i => rows[i][END] && rows[i][END] <= now);
    else if (v.expires) { const d = +v.expires * day; list.push(i => rows[i][END] > now && rows[i][END] - now <= d); }
    if (user) { const fits = names.map(name => (name || 'signing identity').toLowerCase().includes(user)); list.push(i => fits[userOf[i]]); }
    if (q) list.push(i => textOf(i).includes(q));
    return list;
  }

  let descending = false, items = new Int32Array(0), groups = [], chunks = [], height = 46, printing = false, toggled = new Map();
  const groupings = {
    class: { key: i => rows[i][CLASS], size: data.classes.length, name: g => data.classes[g] },
    user: { key: i => userOf[i], size: names.length, name: g => names[g] || 'signing identity' },
    fate: { key: i => rows[i][FATE], size: data.fates.length, name: g => data.fates[g].name },
  };

  // show works out what is to be seen; draw makes elements of the part that is on the screen.
  function show() {
    const list = tests(), sorted = order($('sort').value), found = new Uint32Array(n);
    let m = 0;
    for (let k = 0; k < n; k++) {
      const i = sorted[descending ? n - 1 - k : k];
      let fits = true;
      for (const test of list) if (!test(i)) { fits = false; break; }
      if (fits) found[m++] = i;
    }
    arrange(found.subarray(0, m), list.length > 0);
    $('status').textContent = m === n ? `${n.toLocaleString('en')} keys` : `${m.toLocaleString('en')} of ${n.toLocaleString('en')} keys`;
    $('clear').disabled = list.length === 0;
    for (const th of table.tHead.rows[0].cells) {
      if (th.dataset.sort === $('sort').value) th.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
      else th.removeAttribute('aria-sort');
    }
    layOut();
  }

  function arrange(found, filtered) {
    const by = groupings[$('group').value];
    groups = [];
    if (!by) { items = Int32Array.from(found); return; }
    const at = new Int32Array(by.size).fill(-1);
    for (const i of found) { // in the order in which the first key of each stands
      const g = by.key(i);
      if (at[g] < 0) { at[g] = groups.length; groups.push({ key: g, name: by.name(g), count: 0, need: 0, start: 0 }); }
      const group = groups[at[g]];
      group.count++;
      if (data.fates[rows[i][FATE]].need || data.fates[rows[i][FATE]].open) group.need++;
    }
    let start = 0;
    for (const group of groups) { group.start = start; start += group.count; group.next = group.start; }
    const sorted = new Uint32Array(found.length);
    for (const i of found) sorted[groups[at[by.key(i)]].next++] = i;
    const all = new Int32Array(found.length + groups.length);
    let m = 0;
    groups.forEach((group, g) => {
      all[m++] = -1 - g;
      const few = groups.length < 40 && (group.need > 0 || filtered);
      group.open = printing || (toggled.get(group.name) ?? few);
      if (group.open) { all.set(sorted.subarray(group.start, group.start + group.count), m); m += group.count; }
    });
    items = all.subarray(0, m);
  }

  const watcher = new IntersectionObserver(entries => {
    if (printing) return;
    for (const entry of entries) { if (entry.isIntersecting) draw(entry.target); else clear(entry.target); }
  }, { rootMargin: '1500px 0px' });

  function layOut() {
    watcher.disconnect();
    for (const chunk of chunks) chunk.remove();
    chunks = [];
    const most = printing ? Math.min(items.length, PRINTED) : items.length, fragment = document.createDocumentFragment();
    for (let from = 0; from < most; from += CHUNK) {
      const chunk = document.createElement('tbody');
      chunk.from = from; chunk.to = Math.min(from + CHUNK, most); chunk.guess = (chunk.to - from) * height;
      if (from === 0 || printing) draw(chunk); else clear(chunk, true);
      chunks.push(chunk);
      fragment.append(chunk);
    }
    table.append(fragment);
    table.setAttribute('aria-rowcount', items.length + 1);
    $('none').hidden = items.length > 0;
    if (chunks[0] && chunks[0].offsetHeight) height = chunks[0].offsetHeight / (chunks[0].to - chunks[0].from);
    for (const chunk of chunks) watcher.observe(chunk);
  }

  function clear(chunk, fresh) {
    if (!fresh && !chunk.drawn) return;
    if (!fresh) { if (chunk.contains(document.activeElement)) return; chunk.guess = chunk.offsetHeight; }
    chunk.drawn = false;
    const row = document.createElement('tr'), cell = document.createElement('td');
    row.className = 'gap'; row.setAttribute('aria-hidden', 'true'); cell.colSpan = table.tHead.rows[0].cells.length;
    cell.style.height = chunk.guess + 'px';
    row.append(cell);
    chunk.replaceChildren(row);
  }

  function draw(chunk) {
    if (chunk.drawn) return;
    chunk.drawn = true;
    const all = [];
    for (let k = chunk.from; k < chunk.to; k++) {
      const row = items[k] < 0 ? header(groups[-1 - items[k]]) : line(items[k]);
      row.setAttribute('aria-rowindex', k + 2);
      all.push(row);
    }
    chunk.replaceChildren(...all);
  }

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function header(group) {
    const row = make('tr', 'group'), cell = make('th'), button = make('button');
    row.setAttribute('role', 'row'); cell.setAttribute('role', 'rowheader'); cell.scope = 'row';
    cell.colSpan = table.tHead.rows[0].cells.length;
    button.type = 'button';
    button.setAttribute('aria-expanded', group.open);
    button.append(make('span', '', group.name), make('span', 'badge', group.count.toLocaleString('en')));
    if (group.need) button.append(make('span', 'badge act', `${group.need.toLocaleString('en')} to look at or planned`));
    button.addEventListener('click', () => {
      toggled.set(group.name, !group.open);
      show();
      const again = [...table.querySelectorAll('.group button')].find(b => b.firstChild.textContent === group.name);
      if (again) again.focus({ preventScroll: true });
    });
    cell.append(button);
    row.append(cell);
    return row;
  }

  const masked = id => id.length < 12 ? '…' : id.slice(0, 4) + '…' + id.slice(-4);
  const date = t => t ? new Date(t * 1000).toISOString().slice(0, 10) : '';
  function line(i) {
    const r = rows[i], row = make('tr', 'row'), fate = data.fates[r[FATE]];
    row.setAttribute('role', 'row');
    const cell = (label, className, ...content) => {
      const td = make('td', className);
      td.setAttribute('role', 'cell'); td.dataset.label = label;
      td.append(...content);
      row.append(td);
    };
    cell('Access key', 'first', make('code', '', data.whole && !$('whole').checked ? masked(r[ID]) : r[ID]), make('span', 'small state', (fate.done ? 'was ' : '') + (r[ACTIVE] ? 'active' : 'switched off')));
    cell('User', 'user', r[USER] ? r[USER] : make('span', 'soft', 'signing identity'));
    cell('Created', 'when', r[CREATED] ? date(r[CREATED]) : 'unknown', make('span', 'small', r[CREATED] ? `${days(now - r[CREATED])}` : ''));
    cell('Expires', 'when', r[END] ? date(r[END]) : make('b', '', 'never'), make('span', 'small', r[END] ? remaining(r[END]) : ''));
    if (data.used) cell('Last used', 'when', r[USED] ? date(r[USED]) : make('span', 'soft', '–'));
    cell('Class', '', make('span', 'badge', data.classes[r[CLASS]]));
    cell('What happens', '', make('span', 'badge ' + fate.style, fate.name));
    cell('Why', 'why', r[WHY], make('span', 'small', r[MORE]));
    return row;
  }
  const days = seconds => { const d = Math.max(0, Math.floor(seconds / day)); return d === 1 ? '1 day' : `${d.toLocaleString('en')} days`; };
  function remaining(end) {
    const left = Math.abs(end - now), text = left < day ? `${Math.max(1, Math.round(left / 3600))} h` : days(left);
    return end > now ? `in ${text}` : `${text} ago`;
  }

  // The address after # holds the filters: links of other pages, and of this one, set them.
  function readHash() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (![...wanted.keys()].some(key => controls.includes(key))) return false;
    for (const id of controls) {
      const value = wanted.get(id), control = $(id);
      if (value === null && (id === 'group' || id === 'sort')) continue;
      if (id === 'fate' && /^\d+(,\d+)+$/.test(value ?? '') && value.split(',').every(f => data.fates[f])) offer(control, value);
      const option = control.options && [...control.options].find(o => o.value === value || o.textContent === value);
      control.value = control.options ? (option ? option.value : '') : value ?? '';
    }
    return true;
  }
  // offer adds several fates as one choice, as a link of the index wants them.
  function offer(control, value) {
    if ([...control.options].some(o => o.value === value)) return;
    control.append(new Option(value.split(',').map(f => data.fates[f].name).join(', '), value));
  }
  function fromHash() {
    if (!readHash()) return;
    show();
    $('list').scrollIntoView();
  }

  function chooseSort(by) {
    descending = $('sort').value === by ? !descending : false;
    $('sort').value = by;
    show();
  }

  for (const body of [...table.tBodies]) body.remove();
  for (const element of document.querySelectorAll('.scripted')) element.hidden = false;
  for (const element of document.querySelectorAll('.plain')) element.remove();
  for (const th of table.tHead.rows[0].cells) {
    if (!th.dataset.sort) continue;
    const button = make('button', '', th.textContent);
    button.type = 'button';
    button.addEventListener('click', () => chooseSort(th.dataset.sort));
    th.replaceChildren(button);
  }
  let timer;
  for (const id of ['q', 'user']) $(id).addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(show, n > 20000 ? 150 : 30); });
  for (const id of controls.slice(2)) $(id).addEventListener('change', () => { if (id === 'sort') descending = false; if (id === 'group') toggled.clear(); show(); });
  $('turn').addEventListener('click', () => { descending = !descending; show(); });
  $('clear').addEventListener('click', () => { for (const id of controls.slice(0, -2)) $(id).value = ''; history.replaceState(null, '', '#list'); show(); });
  if ($('whole')) $('whole').addEventListener('change', layOut);
  document.querySelector('form.tools').addEventListener('submit', event => event.preventDefault());
  addEventListener('hashchange', fromHash);
  addEventListener('beforeprint', () => { printing = true; show(); $('cut').hidden = items.length <= PRINTED; });
  addEventListener('afterprint', () => { printing = false; $('cut').hidden = true; show(); });
  let width = innerWidth;
  addEventListener('resize', () => { if (!printing && (width < 1000) !== (innerWidth < 1000)) layOut(); width = innerWidth; });
  readHash();
  show();
})();
