// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// eventsDelay is how long an event may take to its subscriber, on a busy machine.
const eventsDelay = 30 * time.Second

// event is what a subscriber is told of one operation.
type event struct {
	Type, Name, Path, DataPath, Modified string
}

// stream is a subscription to the events of one mount.
type stream struct {
	m      *mount
	socket *websocket.Conn
}

// subscribe opens the server's stream of events, as a user's tool does. It returns nil where
// the server refuses: Vault 1.13 to 1.15 have the stream as an experiment, which devserver
// enables, later ones in the Enterprise edition alone, and OpenBao has no events.
func (m *mount) subscribe() *stream {
	m.t.Helper()
	addr := m.server.Addr()
	config, err := websocket.NewConfig("ws"+strings.TrimPrefix(addr, "http")+"/v1/sys/events/subscribe/cloudkeys/*?json=true", addr)
	if err != nil {
		m.t.Fatal(err)
	}
	config.Header.Set("X-Vault-Token", m.server.Token())
	socket, err := config.DialContext(m.t.Context())
	var failed *websocket.DialError
	if errors.As(err, &failed) && errors.Is(failed.Err, websocket.ErrBadStatus) {
		return nil
	}
	if err != nil {
		m.t.Fatalf("the server neither opens the stream of events nor refuses it: %v", err)
	}
	m.t.Cleanup(func() { _ = socket.Close() })
	return &stream{m, socket}
}

// mustTell expects these events of the mount, in any order, since the server sends each by
// itself, and no others.
func (s *stream) mustTell(want ...event) {
	s.m.t.Helper()
	var got []event
	for len(got) < len(want) {
		if e, ours := s.next(); ours {
			got = append(got, e)
		}
	}
	for _, e := range want {
		if !slices.Contains(got, e) {
			s.m.t.Errorf("%+v was not sent", e)
		}
	}
	for _, e := range got {
		if !slices.Contains(want, e) {
			s.m.t.Errorf("%+v was sent", e)
		}
	}
}

// next waits for an event, which may be another mount's.
func (s *stream) next() (e event, ours bool) {
	s.m.t.Helper()
	if err := s.socket.SetReadDeadline(time.Now().Add(eventsDelay)); err != nil {
		s.m.t.Fatal(err)
	}
	var text string
	if err := websocket.Message.Receive(s.socket, &text); err != nil {
		s.m.t.Fatalf("no event within %s: %v", eventsDelay, err)
	}
	var message struct { // in the form of CloudEvents
		Data struct {
			EventType string `json:"event_type"`
			Event     struct {
				Metadata struct {
					Name     string `json:"name"`
					Path     string `json:"path"`
					DataPath string `json:"data_path"`
					Modified string `json:"modified"`
				} `json:"metadata"`
			} `json:"event"`
			PluginInfo struct {
				MountPath string `json:"mount_path"`
			} `json:"plugin_info"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(text), &message); err != nil {
		s.m.t.Fatalf("%v: %s", err, text)
	}
	if message.Data.PluginInfo.MountPath != s.m.path+"/" {
		return event{}, false
	}
	for _, secret := range s.m.sim.Secrets() {
		if strings.Contains(text, secret) {
			s.m.t.Error("an event shows a secret key")
		}
	}
	// Newer servers put the mount's path before these two.
	inMount := func(path string) string { return strings.TrimPrefix(path, s.m.path+"/") }
	metadata := message.Data.Event.Metadata
	return event{message.Data.EventType, metadata.Name, inMount(metadata.Path), inMount(metadata.DataPath), metadata.Modified}, true
}

// TestEvents does what the engine tells of, and listens as an operator's tool does. A server
// that gives nobody its events must do all of it just as well.
func TestEvents(t *testing.T) {
	m := newMount(t)
	m.account.AddUser("db", "api:ReadVms")
	events := m.subscribe()
	if events == nil {
		t.Log("this server refuses to tell its events: what is tested is that everything works without")
	}
	tells := func(name string, operate func(t *testing.T) []event) {
		t.Run(name, func(t *testing.T) {
			want := operate(t)
			if events != nil {
				events.mustTell(want...)
			}
		})
	}
	logic := m.server.Client.Logical()
	remove := func(path string) {
		t.Helper()
		if _, err := logic.DeleteWithContext(t.Context(), m.path+"/"+path); err != nil {
			t.Fatal(err)
		}
	}

	tells("accounts and roles that are written and patched", func(t *testing.T) []event {
		m.configure("ttl=10m")
		m.patch("roles/app", map[string]any{"ttl": "5m"})
		m.write("static-roles/db", "user_name=db", "rotation_period=4h")
		return []event{
			{"cloudkeys/config-write", "default", "config/default", "config/default", "true"},
			{"cloudkeys/role-write", "app", "roles/app", "roles/app", "true"},
			{"cloudkeys/role-write", "app", "roles/app", "roles/app", "true"},
			{"cloudkeys/static-role-write", "db", "static-roles/db", "static-roles/db", "true"},
			{"cloudkeys/rotate", "db", "rotate-role/db", "static-creds/db", "true"},
		}
	})
	tells("leases, and those that fail", func(t *testing.T) []event {
		l := m.lease("")
		if _, err := m.tryLeaseOf("nope", ""); err == nil {
			t.Error("a role that does not exist leases keys")
		}
		l.renew(0)
		l.revoke()
		return []event{
			{"cloudkeys/creds-create", "app", "creds/app", "keys/" + l.AccessKey, "true"},
			{"cloudkeys/creds-create-fail", "nope", "creds/nope", "creds/nope", "false"},
		}
	})
	tells("rotations", func(*testing.T) []event {
		m.write("rotate-root/default")
		m.write("rotate-role/db")
		return []event{
			{"cloudkeys/rotate-root", "default", "rotate-root/default", "config/default", "true"},
			{"cloudkeys/rotate", "db", "rotate-role/db", "static-creds/db", "true"},
		}
	})
	tells("a key that is killed, and a tidy", func(*testing.T) []event {
		l := m.lease("")
		remove("keys/" + l.AccessKey)
		m.tidy("account=default")
		return []event{
			{"cloudkeys/creds-create", "app", "creds/app", "keys/" + l.AccessKey, "true"},
			{"cloudkeys/key-delete", l.AccessKey, "keys/" + l.AccessKey, "keys/" + l.AccessKey, "true"},
			{"cloudkeys/tidy", "default", "tidy", "tidy", "true"},
		}
	})
	tells("what is deleted", func(*testing.T) []event {
		remove("static-roles/db")
		remove("roles/app")
		remove("config/default")
		return []event{
			{"cloudkeys/static-role-delete", "db", "static-roles/db", "static-roles/db", "true"},
			{"cloudkeys/role-delete", "app", "roles/app", "roles/app", "true"},
			{"cloudkeys/config-delete", "default", "config/default", "config/default", "true"},
		}
	})
}
