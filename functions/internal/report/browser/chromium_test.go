// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package browser

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// patience is how long one answer of the browser may take, on a busy machine, with the largest page.
const patience = 3 * time.Minute

// chromium is a browser that is spoken to over two pipes, in the DevTools protocol.
type chromium struct {
	to   io.Writer
	mu   sync.Mutex
	last int
	open map[int]chan reply
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// start runs Chromium without any network. A machine without one fails: a test that skips proves nothing.
func start(t *testing.T) *chromium {
	t.Helper()
	name := os.Getenv("CHROMIUM")
	if name == "" {
		name = "chromium"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs Chromium: run scripts/pins/chromium/install.sh, or set CHROMIUM to one: %v", err)
	}
	theirs, to, err := os.Pipe()
	must(t, err)
	from, ours, err := os.Pipe()
	must(t, err)
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars",
		"--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, ours}
	must(t, cmd.Start())
	_, _ = theirs.Close(), ours.Close()
	c := &chromium{to: to, open: map[int]chan reply{}}
	done := make(chan struct{})
	go func() { defer close(done); c.listen(from) }()
	t.Cleanup(func() {
		_ = to.Close() // which ends it
		_ = cmd.Wait()
		_ = from.Close()
		<-done
	})
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen hands answers to those who wait for them; events nobody waits for.
func (c *chromium) listen(from io.Reader) {
	in := bufio.NewReaderSize(from, 1<<20)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var r reply
		if json.Unmarshal(text[:len(text)-1], &r) != nil || r.ID == 0 {
			continue
		}
		c.mu.Lock()
		waiting := c.open[r.ID]
		delete(c.open, r.ID)
		c.mu.Unlock()
		if waiting != nil {
			waiting <- r
		}
	}
}

func (c *chromium) call(session, method string, params, result any) error {
	answer := make(chan reply, 1)
	c.mu.Lock()
	c.last++
	id := c.last
	c.open[id] = answer
	text, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params, "sessionId": session})
	if err == nil {
		_, err = c.to.Write(append(text, 0))
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			return errors.New(method + ": " + r.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(r.Result, result)
	case <-time.After(patience):
		return fmt.Errorf("%s: no answer in %s", method, patience)
	}
}

// tab is one page in the browser.
type tab struct {
	t       *testing.T
	c       *chromium
	session string
}

func (c *chromium) tab(t *testing.T) *tab {
	t.Helper()
	var target struct{ TargetID string }
	must(t, c.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target))
	var attached struct{ SessionID string }
	must(t, c.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached))
	t.Cleanup(func() { _ = c.call("", "Target.closeTarget", map[string]any{"targetId": target.TargetID}, nil) })
	return &tab{t, c, attached.SessionID}
}

func (b *tab) do(method string, params map[string]any) {
	b.t.Helper()
	must(b.t, b.c.call(b.session, method, params, nil))
}

// look sets how wide the window is, and whether it is dark.
func (b *tab) look(width, height int, scheme string) {
	b.t.Helper()
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]any{{"name": "prefers-color-scheme", "value": scheme}}})
}

// visit opens a file, and waits until it is loaded and its script has run.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.do("Page.navigate", map[string]any{"url": "about:blank"})
	b.do("Page.navigate", map[string]any{"url": "file://" + path})
	b.eval(`new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))`, nil)
	b.settle()
}

// settle waits until what was asked for is drawn.
func (b *tab) settle() {
	b.t.Helper()
	b.eval(`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))))`, nil)
}

// eval runs a script of ours in the page, whose own policy does not bind it, and decodes its value.
func (b *tab) eval(script string, into any) {
	b.t.Helper()
	must(b.t, b.try(script, into))
}

func (b *tab) try(script string, into any) error {
	var answer struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	if err := b.c.call(b.session, "Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true},
		&answer); err != nil {
		return err
	}
	if answer.Exception != nil {
		return fmt.Errorf("%s: %s", answer.Exception.Text, answer.Exception.Exception.Description)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Result.Value, into); err != nil {
		return fmt.Errorf("%s gives %s: %w", script, answer.Result.Value, err)
	}
	return nil
}

// until waits for a condition of the page, which may be on its way to another one.
func (b *tab) until(condition string) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; {
		var holds bool
		err := b.try(condition, &holds)
		if err == nil && holds {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			b.t.Fatalf("%s does not hold in %s: %v", condition, patience, err)
		}
	}
}

// keep is where pictures are kept for whoever wants to look: REPORT_DIR, or a place that is thrown away.
func keep(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("REPORT_DIR")
	if dir == "" {
		return t.TempDir()
	}
	must(t, os.MkdirAll(dir, 0o755))
	return dir
}

// picture keeps what the window shows.
func (b *tab) picture(path string) {
	b.t.Helper()
	b.binary(path, "Page.captureScreenshot", map[string]any{"format": "png"})
}

// print keeps the page as it is printed.
func (b *tab) print(path string) []byte {
	b.t.Helper()
	return b.binary(path, "Page.printToPDF", map[string]any{"preferCSSPageSize": true, "printBackground": true})
}

func (b *tab) binary(path, method string, params map[string]any) []byte {
	b.t.Helper()
	var answer struct{ Data string }
	must(b.t, b.c.call(b.session, method, params, &answer))
	data, err := base64.StdEncoding.DecodeString(answer.Data)
	must(b.t, err)
	must(b.t, os.WriteFile(filepath.Clean(path), data, 0o644))
	return data
}
