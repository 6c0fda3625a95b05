// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/devserver"
)

// overheard is what servers have sent to a subscriber of all events.
type overheard struct {
	subscribed atomic.Bool // ever: OpenBao has no events

	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (o *overheard) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(text)
}

func (o *overheard) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// listen subscribes to all events of a server until the context ends, again and again where
// the server ends in between.
func (o *overheard) listen(ctx context.Context, server *devserver.Server) {
	for ctx.Err() == nil {
		_ = o.subscribe(ctx, server) // it is down, or goes down
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// subscribe reads the WebSocket as it comes: a server's frames are text with a few bytes in
// between, and a search for words in them needs no more.
func (o *overheard) subscribe(ctx context.Context, server *devserver.Server) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.Addr()+"/v1/sys/events/subscribe/*?json=true", nil)
	if err != nil {
		return err
	}
	req.Header = http.Header{
		"X-Vault-Token": {server.Token()}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, // RFC 6455's own; it protects nothing
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("HTTP %s", resp.Status)
	}
	o.subscribed.Store(true)
	defer context.AfterFunc(ctx, func() { _ = resp.Body.Close() })()
	buffer := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buffer)
		_, _ = o.Write(buffer[:n]) // into memory
		if err != nil {
			return err
		}
	}
}
