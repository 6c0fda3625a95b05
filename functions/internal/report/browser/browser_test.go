// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package browser opens the HTML reports in a real browser. It is a package of its own so
// that no other test needs one.
package browser

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report/reporttest"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// page is one of the pages, with its size.
type page struct {
	name  string
	keys  int
	write func(io.Writer) error
}

func account(mode string, keys int, change func(*report.Account)) page {
	a := reporttest.Account("production", mode, keys)
	name := "account-" + mode
	if change != nil {
		change(&a)
		name += "-capped"
	}
	return page{fmt.Sprintf("%s-%d", name, keys), keys, func(w io.Writer) error { _, err := a.HTML(w); return err }}
}

func index(mode string, accounts int) page {
	return page{fmt.Sprintf("index-%s-%d", mode, accounts), accounts, reporttest.Index(mode, accounts).HTML}
}

func policy(mode string, keys int) page {
	return page{fmt.Sprintf("policy-%s-%d", mode, keys), keys, reporttest.Policy(mode, keys).HTML}
}

// pages are those that are looked at, in all sizes.
func pages() []page {
	return []page{
		account(settings.Report, 0, nil), account(settings.Report, 53, nil), account(settings.Enforce, 53, nil),
		account(settings.Enforce, 53, func(a *report.Account) {
			a.Result.Tripped, a.Findings = "the plan changes 31 keys, and MAX_KEYS is 20", reporttest.Refused("production", 53)
			a.Result.Partial, a.Result.Cursor, a.Unmatched = true, reporttest.Script, []string{"KEEP_USERS ^app$"}
			a.Result.Counts.UnreadUsers, a.Result.Unread = 1, []string{`user "backup": AccessDenied`}
		}),
		account(settings.Report, 5000, nil), account(settings.Enforce, 100_000, func(a *report.Account) { a.WholeIDs = true }),
		index(settings.Report, 0), index(settings.Report, 53), index(settings.Enforce, 53), index(settings.Enforce, 400),
		policy(settings.Report, 0), policy(settings.Report, 53), policy(settings.Enforce, 100_000),
	}
}

func (p page) file(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, p.name+".html")
	file, err := os.Create(path)
	must(t, err)
	must(t, p.write(file))
	must(t, file.Close())
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() > 40_000_000 {
		t.Errorf("%s is %d bytes long, want 40 MB at most", p.name, info.Size())
	}
	return path
}

// cutOff finds what does not fit: elements beyond the window's edges, and boxes whose content is wider than they are.
const cutOff = `(() => {
	const wide = document.documentElement.clientWidth, found = [];
	if (document.documentElement.scrollWidth > wide)
		found.push('the page is ' + document.documentElement.scrollWidth + ' wide, the window ' + wide);
	for (const e of document.querySelectorAll('body *')) {
		if (e.closest('.skip, script, style, option, thead') && getComputedStyle(e.closest('thead') || e).position === 'absolute' ||
			e.closest('.skip, script, option')) continue;
		const box = e.getBoundingClientRect(), style = getComputedStyle(e);
		if (box.width === 0 || style.display === 'none') continue;
		const name = e.tagName + '.' + e.className.toString() + ' ' + e.textContent.slice(0, 40);
		if (box.right > wide + 1 || box.left < -1) found.push(name + ' ends at ' + box.right);
		if (!['INPUT', 'SELECT', 'svg', 'rect'].includes(e.tagName) && style.display !== 'inline' && e.scrollWidth > e.clientWidth + 1 &&
			e.clientWidth > 0) found.push(name + ' holds ' + e.scrollWidth + ' in ' + e.clientWidth);
	}
	return found.slice(0, 5);
})()`

func TestEveryPageFitsEveryWindow(t *testing.T) {
	axe, err := os.ReadFile(os.Getenv("AXE"))
	if err != nil {
		t.Fatalf("this test needs axe-core: run scripts/pins/axe/install.sh, and set AXE to what it prints: %v", err)
	}
	dir := keep(t)
	c := start(t)
	for _, p := range pages() {
		t.Run(p.name, func(t *testing.T) {
			path := p.file(t, dir)
			b := c.tab(t)
			for _, width := range []int{390, 768, 1280} {
				for _, scheme := range []string{"light", "dark"} {
					t.Run(fmt.Sprintf("%d px %s", width, scheme), func(t *testing.T) {
						b := &tab{t, b.c, b.session}
						b.look(width, 2400, scheme)
						b.visit(path)
						var found []string
						b.eval(cutOff, &found)
						for _, what := range found {
							t.Errorf("cut off: %s", what)
						}
						b.picture(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", p.name, width, scheme)))
						b.mustPassAxe(string(axe))
						b.mustBeText()
						if p.keys == 53 && strings.HasPrefix(p.name, "account") { // names as heads of groups
							b.eval(`(() => { const c = document.getElementById('group'); c.value = 'user'; c.dispatchEvent(new Event('change')); })()`, nil)
							b.settle()
							b.eval(cutOff, &found)
							for _, what := range found {
								t.Errorf("cut off, grouped by user: %s", what)
							}
						}
					})
				}
			}
		})
	}
}

// mustPassAxe looks for what keeps people from using the page: contrast AA, names, roles, order.
func (b *tab) mustPassAxe(axe string) {
	b.t.Helper()
	b.eval(axe+";0", nil)
	var violations []string
	b.eval(`axe.run(document, {
		resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
	}).then(r =>
		r.violations.flatMap(v => v.nodes.slice(0, 3).map(n => v.id + ': ' + n.html.slice(0, 200) + ' ' + n.failureSummary)))`, &violations)
	for _, v := range violations {
		b.t.Errorf("axe: %s", v)
	}
}

// mustBeText tells that nothing that the cloud sent has become markup or has run.
func (b *tab) mustBeText() {
	b.t.Helper()
	var bad []string
	b.eval(`[document.title === 'hacked' ? 'a name has run' : '',
		document.querySelector('img, iframe, object, a[href^="http"], a[href^="javascript"]') ? 'a name is markup' : '',
		document.scripts.length > 2 ? 'there are ' + document.scripts.length + ' scripts' : ''].filter(Boolean)`, &bad)
	for _, what := range bad {
		b.t.Error(what)
	}
}

func TestPaperHasEverything(t *testing.T) {
	dir := keep(t)
	c := start(t)
	for _, p := range []page{
		account(settings.Report, 0, nil), account(settings.Enforce, 53, nil), account(settings.Report, 5000, nil),
		index(settings.Report, 0), index(settings.Enforce, 53), policy(settings.Report, 0), policy(settings.Report, 53),
		policy(settings.Enforce, 5000),
	} {
		t.Run(p.name, func(t *testing.T) {
			b := c.tab(t)
			b.look(1280, 1000, "dark") // paper is white nevertheless
			b.visit(p.file(t, dir))
			b.eval(`addEventListener('beforeprint', () => { window.printed = document.querySelectorAll('#keys tr.row').length; })`, nil)
			pdf := b.print(filepath.Join(dir, p.name+".pdf"))
			if !bytes.HasPrefix(pdf, []byte("%PDF")) {
				t.Fatal("it is no PDF")
			}
			if strings.HasPrefix(p.name, "account") {
				var printed int
				b.eval(`window.printed`, &printed)
				if printed != p.keys {
					t.Errorf("%d keys are printed, want %d", printed, p.keys)
				}
			}
			// The paper's own width: A4 across, less its margins.
			b.do("Emulation.setEmulatedMedia", map[string]any{"media": "print"})
			b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": 1039, "height": 710, "deviceScaleFactor": 1, "mobile": false})
			b.eval(`dispatchEvent(new Event('beforeprint'))`, nil)
			b.settle()
			var found []string
			b.eval(cutOff, &found)
			for _, what := range found {
				t.Errorf("cut off: %s", what)
			}
		})
	}
}

// measure times one change of a control, until its rows are drawn, as a median of some.
const measure = `(async () => {
	const times = [];
	const change = (id, value) => new Promise(done => {
		const control = document.getElementById(id), began = performance.now();
		control.value = value;
		control.dispatchEvent(new Event('change'));
		document.getElementById('keys').offsetHeight;
		requestAnimationFrame(() => setTimeout(() => done(performance.now() - began), 0));
	});
	for (let i = 0; i < 7; i++) {
		let total = 0;
		for (const [id, value] of [['group', ''], ['sort', 'created'], ['sort', 'user'], ['expires', 'never'], ['expires', ''], ['class', '0'],
			['class', ''], ['group', 'user'], ['group', 'class'], ['sort', 'need']]) {
			total += await change(id, value);
		}
		const q = document.getElementById('q');
		for (const text of ['backup', '']) {
			q.value = text;
			total += await change('sort', 'need');
		}
		times.push(total);
	}
	return times.sort((a, b) => a - b)[3];
})()`

func TestALargePageIsAsQuickAsItIsLarge(t *testing.T) {
	dir := t.TempDir()
	c := start(t)
	took := map[int]float64{}
	for _, keys := range []int{5000, 100_000} {
		b := c.tab(t)
		b.look(1280, 1000, "light")
		b.visit(account(settings.Report, keys, nil).file(t, dir))
		var ms float64
		b.eval(measure, &ms)
		took[keys] = ms
	}
	t.Logf("filtering and sorting: 5,000 keys in %.0f ms, 100,000 in %.0f ms, %.1f times", took[5000], took[100_000], took[100_000]/took[5000])
	if took[100_000] > 20*took[5000] {
		t.Errorf("100,000 keys take %.0f ms, 5,000 take %.0f ms: more than 20 times that", took[100_000], took[5000])
	}
}

func TestThePageGroupsFiltersAndSorts(t *testing.T) {
	dir := t.TempDir()
	c := start(t)
	b := c.tab(t)
	b.look(1280, 3000, "light")
	path := account(settings.Report, 5000, nil).file(t, dir)
	b.visit(path)
	status := func() (n int) {
		var text string
		b.settle()
		b.eval(`document.getElementById('status').textContent`, &text)
		n, err := strconv.Atoi(strings.ReplaceAll(strings.Fields(text)[0], ",", ""))
		must(t, err)
		return n
	}
	want := map[string]int{}
	for f, err := range reporttest.Keys("production", settings.Report, 5000) {
		must(t, err)
		want[string(f.Class)]++
		if f.Key().End().IsZero() {
			want["never"]++
		}
		if !f.Active {
			want["off"]++
		}
		if strings.Contains(f.User, reporttest.Script) {
			want["script"]++
		}
	}
	set := func(id, value string) {
		b.eval(fmt.Sprintf(`(() => { const c = document.getElementById(%q); c.value = %q;
			c.dispatchEvent(new Event(c.tagName === 'INPUT' ? 'input' : 'change'));
			return new Promise(d => setTimeout(d, 100)); })()`, id, value), nil)
	}
	for _, test := range []struct {
		name, id, value string
		want            int
	}{
		{"what never expires", "expires", "never", want["never"]},
		{"what is switched off", "active", "0", want["off"]},
		{"a hostile user by his name", "user", reporttest.Script, want["script"]},
		{"a class by free text", "q", "quarantine until", countOf("in quarantine")},
	} {
		t.Run("it finds "+test.name, func(t *testing.T) {
			set(test.id, test.value)
			if got := status(); got != test.want || got == 0 {
				t.Errorf("%d keys are left, want %d", got, test.want)
			}
			b.eval(`document.getElementById('clear').click()`, nil)
			if got := status(); got != 5000 {
				t.Errorf("%d keys after clearing, want all", got)
			}
		})
	}
	t.Run("an address with several fates shows the keys of all of them", func(t *testing.T) {
		b.visit(path + "#fate=8,13")
		if got, want := status(), countOf("to look at")+countOf("in quarantine"); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
		var chosen string
		b.eval(`document.getElementById('fate').selectedOptions[0].textContent`, &chosen)
		if chosen != "to look at, in quarantine" {
			t.Errorf("the choice says %q", chosen)
		}
		b.eval(`document.getElementById('clear').click()`, nil)
	})
	t.Run("nothing of another's runs, even were it taken for markup", func(t *testing.T) {
		b.eval(`document.body.insertAdjacentHTML('beforeend',
			'<p id="foreign" style="position:fixed"><img src="x" onerror="document.title=1234">' +
			'<a id="run" href="javascript:document.title=1234" onclick="document.title=1234">x</a></p>')`, nil)
		b.eval(`(() => { const s = document.createElement('script'); s.textContent = 'document.title=1234'; document.body.append(s); })()`, nil)
		b.eval(`document.getElementById('run').click(); new Promise(done => setTimeout(done, 200))`, nil)
		var got []string
		b.eval(`[document.title, getComputedStyle(document.getElementById('foreign')).position]`, &got)
		if got[0] == "1234" || got[1] != "static" {
			t.Errorf("got %q", got)
		}
		b.visit(path)
	})
	t.Run("an address with a filter opens with it", func(t *testing.T) {
		b.visit(path + "#class=orphan")
		if got := status(); got != want["orphan"] {
			t.Errorf("got %d, want %d", got, want["orphan"])
		}
		b.eval(`document.getElementById('clear').click()`, nil)
	})
	t.Run("a group opens and closes", func(t *testing.T) {
		set("group", "user")
		b.settle()
		var before, after, closed int
		b.eval(`document.querySelectorAll('#keys tr.row').length`, &before)
		b.eval(`document.querySelector('.group button').click(); document.querySelectorAll('#keys tr.row').length`, &after)
		b.eval(`document.querySelector('.group button').click(); document.querySelectorAll('#keys tr.row').length`, &closed)
		if before != 0 || after == 0 || closed != 0 {
			t.Errorf("%d rows before, %d open, %d closed", before, after, closed)
		}
	})
	t.Run("a group opens by the keyboard alone, which stays where it was", func(t *testing.T) {
		press := func(key, code string, number int) {
			for _, kind := range []string{"keyDown", "keyUp"} {
				b.do("Input.dispatchKeyEvent", map[string]any{
					"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number,
					"text": map[string]string{"Enter": "\r"}[key],
				})
			}
			b.settle()
		}
		b.eval(`document.getElementById('turn').focus()`, nil)
		for range 8 { // over the heads that sort
			var there bool
			press("Tab", "Tab", 9)
			if b.eval(`document.activeElement.matches('.group button')`, &there); there {
				break
			}
		}
		var state []string
		press("Enter", "Enter", 13)
		b.eval(`[document.activeElement.ariaExpanded, document.activeElement.firstChild.textContent ===
			document.querySelector('.group button').firstChild.textContent ? 'same' : 'another']`, &state)
		if state[0] != "true" || state[1] != "same" {
			t.Errorf("got %q", state)
		}
		press("Enter", "Enter", 13)
	})
	t.Run("the heads sort, and say so", func(t *testing.T) {
		set("group", "")
		var first []string
		b.eval(`document.querySelector('th[data-sort=created] button').click();
			[document.querySelector('th[data-sort=created]').ariaSort, document.querySelector('#keys tr.row .when').textContent]`, &first)
		b.eval(`document.querySelector('th[data-sort=created] button').click();
			[document.querySelector('th[data-sort=created]').ariaSort, document.querySelector('#keys tr.row .when').textContent]`, &first)
		if first[0] != "descending" || first[1] != "unknown" {
			t.Errorf("got %q", first)
		}
	})
	t.Run("rows are drawn as they are needed, the last too", func(t *testing.T) {
		var rows int
		b.eval(`document.querySelectorAll('#keys tr.row').length`, &rows)
		if rows == 0 || rows > 500 {
			t.Errorf("%d rows are drawn", rows)
		}
		b.eval(`(async () => { for (let i = 0; i < 60; i++) { scrollTo(0, document.body.scrollHeight);
			await new Promise(d => requestAnimationFrame(() => setTimeout(d, 20))); } })()`, nil)
		var last string
		b.eval(`[...document.querySelectorAll('#keys tr.row')].at(-1).getAttribute('aria-rowindex')`, &last)
		if last != "5001" {
			t.Errorf("the last row is %s, want 5001", last)
		}
	})
}

func countOf(fate string) (n int) {
	for f, err := range reporttest.Keys("production", settings.Report, 5000) {
		if err == nil && report.Happens(f) == fate {
			n++
		}
	}
	return n
}

func TestWithoutScriptThePageHasWhatNeedsAPerson(t *testing.T) {
	dir := keep(t)
	c := start(t)
	b := c.tab(t)
	b.look(1280, 1600, "light")
	b.do("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	p := account(settings.Report, 5000, nil)
	p.name += "-plain"
	path := p.file(t, dir)
	b.do("Page.navigate", map[string]any{"url": "file://" + path})
	b.until(`location.protocol === 'file:' && document.readyState === 'complete'`) // ours runs nevertheless
	var rows, users, classes, tools int
	b.eval(`document.querySelectorAll('#keys tr.row').length`, &rows)
	b.eval(`document.querySelectorAll('#users tbody tr').length`, &users)
	b.eval(`document.querySelectorAll('#classes tbody tr').length`, &classes)
	b.eval(`[...document.querySelectorAll('.scripted')].filter(e => e.offsetHeight > 0).length`, &tools)
	if rows != 500 || users == 0 || classes < 5 || tools != 0 {
		t.Errorf("%d rows, %d users, %d classes, %d tools that cannot work", rows, users, classes, tools)
	}
	b.picture(filepath.Join(dir, p.name+".png"))
}

// An auditor begins at the index: which keys never expire, whose, since when, what was done and who approved it.
func TestAnAuditorsQuestionsTakeThreeClicks(t *testing.T) {
	dir := t.TempDir()
	x := reporttest.Index(settings.Enforce, 53)
	must(t, os.WriteFile(filepath.Join(dir, "index.html"), written(t, x.HTML), 0o600))
	a := reporttest.Account("account-00004", settings.Enforce, 53)
	must(t, os.WriteFile(filepath.Join(dir, report.FileName("account-00004", 0)+".html"),
		written(t, func(w io.Writer) error { _, err := a.HTML(w); return err }), 0o600))
	c := start(t)
	b := c.tab(t)
	b.look(1280, 1600, "light")
	click := func(t *testing.T, address string) {
		t.Helper()
		b := &tab{t, b.c, b.session}
		b.visit(filepath.Join(dir, "index.html"))
		b.eval(fmt.Sprintf(`(() => { const a = document.querySelector('a[href=%q]'); setTimeout(() => a.click(), 0); return a.href; })()`,
			address), nil)
		b.until(fmt.Sprintf(`location.href.endsWith(%q) && document.readyState === 'complete' &&
			document.querySelectorAll('#keys tr.row').length > 0`, strings.TrimPrefix(address, ".")))
		b.settle()
	}
	t.Run("who approved, as the answer says, marked so", func(t *testing.T) {
		b.visit(filepath.Join(dir, "index.html"))
		var text string
		b.eval(`document.getElementById('approval').textContent`, &text)
		if !strings.Contains(text, "Jane Doe, change CHG-4711") || !strings.Contains(text, "answer says, and nobody has checked it") {
			t.Errorf("got %q", text)
		}
	})
	t.Run("what was done", func(t *testing.T) {
		click(t, "./account-00004.html#fate=15")
		var cells []string
		b.eval(`[...new Set([...document.querySelectorAll('#keys tr.row td[data-label="What happens"]')].map(e => e.textContent))]`, &cells)
		if len(cells) != 1 || cells[0] != "switched off" {
			t.Errorf("got %q", cells)
		}
	})
	t.Run("which accounts have keys that never expire", func(t *testing.T) {
		b.visit(filepath.Join(dir, "index.html"))
		want := 0
		for _, s := range x.Sums {
			if s.NeverExpires > 0 {
				want++
			}
		}
		b.eval(`document.querySelector('.tiles a[href="#which=never"]').click()`, nil)
		b.settle()
		var got []int
		b.eval(`[[...document.querySelectorAll('#accounts tbody tr')].filter(r => !r.hidden).length,
			[...document.querySelectorAll('#accounts tbody tr')].filter(
				r => !r.hidden && r.querySelector('[data-label="Never expire"]').textContent === '0').length]`, &got)
		if got[0] != want || got[1] != 0 || want == 0 || want == 53 {
			t.Errorf("%d accounts, %d of them without such a key, want %d", got[0], got[1], want)
		}
	})
	t.Run("Enter in the search leads nowhere", func(t *testing.T) {
		b.visit(filepath.Join(dir, "index.html"))
		b.eval(`window.same = true; document.getElementById('q').focus()`, nil)
		for _, kind := range []string{"keyDown", "keyUp"} {
			b.do("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"})
		}
		b.settle()
		var same bool
		b.eval(`window.same === true && !location.search`, &same)
		if !same {
			t.Error("the page was left")
		}
	})
	t.Run("which keys never expire, whose, and since when", func(t *testing.T) {
		click(t, "./account-00004.html#expires=never")
		var cells [][]string
		b.eval(`[...document.querySelectorAll('#keys tr.row')].map(r =>
			['Access key', 'User', 'Created', 'Expires'].map(l => r.querySelector('[data-label="' + l + '"]').textContent))`, &cells)
		if len(cells) == 0 {
			t.Fatal("no key is shown")
		}
		for _, row := range cells {
			if row[3] != "never" || row[1] == "" || !regexp.MustCompile(`^\d{4}-\d\d-\d\d\d+ days?$`).MatchString(row[2]) {
				t.Errorf("got %q", row)
			}
		}
	})
}

func written(t *testing.T, write func(io.Writer) error) []byte {
	t.Helper()
	var out bytes.Buffer
	must(t, write(&out))
	return out.Bytes()
}
