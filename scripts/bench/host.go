// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/vault/sdk/helper/pluginutil"
	"github.com/hashicorp/vault/sdk/logical"
	sdk "github.com/hashicorp/vault/sdk/plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// host runs a plugin's binary as a server does, over the plugin protocol, and is nothing else of a server: its storage is in this
// process's memory, where a hundred thousand records can be put at once, and all CPU time of the other process is the plugin's.
type host struct {
	mount
	client  *goplugin.Client
	process process
}

// startHost starts a plugin on a storage. More of its environment may be given.
func startHost(ctx context.Context, binary string, storage *countingStorage, env ...string) (*host, error) {
	cmd := exec.Command(binary)
	cmd.Env = append(append(os.Environ(), pluginutil.PluginAutoMTLSEnv+"=true", pluginutil.PluginMetadataModeEnv+"=false"), env...)
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: sdk.HandshakeConfig, VersionedPlugins: sdk.PluginSet, Cmd: cmd, AutoMTLS: true,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(),
		GRPCDialOptions: []grpc.DialOption{grpc.WithUnaryInterceptor(multiplexed)},
	})
	h := &host{client: client}
	backend, err := h.dispense()
	if err != nil {
		client.Kill()
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	h.mount = mount{backend: backend, storage: storage}
	h.process = process{cmd.Process.Pid}
	err = backend.Setup(ctx, mountConfig(storage))
	if err == nil {
		err = backend.Initialize(ctx, &logical.InitializationRequest{Storage: storage})
	}
	return h, err
}

func (h *host) dispense() (logical.Backend, error) {
	protocol, err := h.client.Client()
	if err != nil {
		return nil, err
	}
	raw, err := protocol.Dispense("backend")
	if err != nil {
		return nil, err
	}
	backend, ok := raw.(logical.Backend)
	if !ok {
		return nil, errors.New("it is no secrets engine")
	}
	return backend, nil
}

// multiplexed names the mount in every request: one process serves all mounts of a plugin.
func multiplexed(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	return invoke(metadata.AppendToOutgoingContext(ctx, pluginutil.MultiplexingCtxKey, "bench"), method, req, reply, conn, opts...)
}

func (h *host) stop(ctx context.Context) {
	h.backend.Cleanup(ctx)
	h.client.Kill()
}
