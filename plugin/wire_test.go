// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"net"
	"reflect"
	"runtime"
	"testing"
	"time"
	"unsafe"

	gplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
)

const (
	wireBuffer = 64 << 10        // bytes on their way in a pipe before the sender waits
	knockLife  = 5 * time.Second // a broker forgets then who has asked for a connection
)

// serveOverGRPC serves the engine as its binary does and returns the server's side of it:
// requests, leases and storage cross the wire, as JSON and protocol buffers. The wire is two
// pipes in memory, one for requests and one for the calls of storage that they lead to: a
// goroutine that waits at a socket would keep the time of a bubble from passing.
func serveOverGRPC(t *testing.T, factory logical.Factory) logical.Backend {
	t.Helper()
	requests := bufconn.Listen(wireBuffer)
	served := &wiredPlugin{plugin.GRPCBackendPlugin{Factory: factory}, pipe{bufconn.Listen(wireBuffer)}}
	plugins := map[string]gplugin.Plugin{plugin.BackendPluginName: served}
	server := &gplugin.GRPCServer{
		Plugins: plugins, Server: gplugin.DefaultGRPCServer, DoneCh: make(chan struct{}), Stdout: mute{}, Stderr: mute{},
	}
	if err := server.Init(); err != nil {
		t.Fatal(err)
	}
	go server.Serve(requests)
	process := &wiredProcess{end: make(chan struct{})}
	client := gplugin.NewClient(&gplugin.ClientConfig{
		Plugins: plugins,
		Reattach: &gplugin.ReattachConfig{
			Protocol: gplugin.ProtocolGRPC, Addr: requests.Addr(), Test: true,
			ReattachFunc: func() (runner.AttachedRunner, error) { return process, nil },
		},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return requests.DialContext(ctx) }),
		},
	})
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := protocol.Dispense(plugin.BackendPluginName)
	if err != nil {
		t.Fatal(err)
	}
	engine := raw.(logical.Backend)
	t.Cleanup(func() { // a bubble ends when all its goroutines have, and no time passes after its test
		engine.Cleanup(context.WithoutCancel(t.Context()))
		_ = protocol.Close()
		close(process.end)
		<-server.DoneCh
		<-time.After(knockLife)
	})
	return engine
}

// wiredPlugin is the engine's plugin, with a pipe between its broker and the server's.
type wiredPlugin struct {
	plugin.GRPCBackendPlugin
	storage pipe
}

// GRPCServer implements gplugin.GRPCPlugin.
func (p *wiredPlugin) GRPCServer(broker *gplugin.GRPCBroker, server *grpc.Server) error {
	p.storage.join(broker)
	return p.GRPCBackendPlugin.GRPCServer(broker, server)
}

// GRPCClient implements gplugin.GRPCPlugin.
func (p *wiredPlugin) GRPCClient(ctx context.Context, broker *gplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	p.storage.join(broker)
	return p.GRPCBackendPlugin.GRPCClient(ctx, broker, conn)
}

// pipe is what a broker takes for one connection on which several are multiplexed, though
// an engine needs but one.
type pipe struct{ listener *bufconn.Listener }

// join has the broker use the pipe. It would open sockets, and go-plugin lets nobody choose
// another way.
func (p pipe) join(broker *gplugin.GRPCBroker) {
	muxer := reflect.ValueOf(broker).Elem().FieldByName("muxer")
	reflect.NewAt(muxer.Type(), unsafe.Pointer(muxer.UnsafeAddr())).Elem().Set(reflect.ValueOf(p))
}

func (p pipe) Enabled() bool                                          { return true }
func (p pipe) Listener(uint32, <-chan struct{}) (net.Listener, error) { return p.listener, nil }
func (p pipe) AcceptKnock(uint32) error                               { return nil }
func (p pipe) Dial() (net.Conn, error)                                { return p.listener.Dial() }
func (p pipe) Close() error                                           { return p.listener.Close() }

// wiredProcess is what the server takes for the plugin's process.
type wiredProcess struct {
	runner.AttachedRunner
	end chan struct{}
}

// Wait implements runner.AttachedRunner.
func (p *wiredProcess) Wait(context.Context) error {
	<-p.end
	return nil
}

// mute is a plugin's output, which nobody writes to. It ends the goroutine that reads: of an
// output that ends, go-plugin would tell a logger that is not there.
type mute struct{}

// Read implements io.Reader.
func (mute) Read([]byte) (int, error) {
	runtime.Goexit()
	return 0, nil
}
