// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
)

// proxy stands before the port on which a node of a cluster hears the others: what they replicate, vote and forward goes through it.
// It knows which node a connection is from, and so can cut one off from all others.
type proxy struct {
	listener net.Listener
	to       string                  // the node's own address
	sender   func(port int) *Server  // whose end of a connection a port is; nil: nobody's
	cut      func(from *Server) bool // whether a connection from there may pass

	mu          sync.Mutex
	connections map[net.Conn]*Server // open ends, by the node that has opened them
}

// startProxy listens on a port of its own.
func startProxy(toPort int, sender func(int) *Server, cut func(*Server) bool) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen before a node's cluster port: %w", err)
	}
	p := &proxy{
		listener: listener, to: net.JoinHostPort("127.0.0.1", strconv.Itoa(toPort)), sender: sender, cut: cut,
		connections: map[net.Conn]*Server{},
	}
	go p.serve()
	return p, nil
}

func (p *proxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *proxy) serve() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go p.pass(conn)
		}
	}
}

// pass copies both ways until one end closes or is cut off.
func (p *proxy) pass(conn net.Conn) {
	defer conn.Close()
	from := p.sender(conn.RemoteAddr().(*net.TCPAddr).Port)
	if p.cut(from) {
		return
	}
	node, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer node.Close()
	p.keep(conn, from)
	defer p.forget(conn)
	if p.cut(from) { // between the first look and keep
		return
	}
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{conn, node}, {node, conn}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // however it ended, both ends are closed
			ended <- struct{}{}
		}()
	}
	<-ended
}

func (p *proxy) keep(conn net.Conn, from *Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connections[conn] = from
}

func (p *proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connections, conn)
}

// closeCut closes the connections that may not pass any more.
func (p *proxy) closeCut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn, from := range p.connections {
		if p.cut(from) {
			conn.Close()
		}
	}
}

func (p *proxy) close() error { return p.listener.Close() }
