// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"errors"
	"slices"
	"sync"
)

// partition is what stands between the nodes of a cluster: a proxy before each.
type partition struct {
	mu    sync.Mutex
	nodes []*Server
	cut   *Server // the node that hears none of the others, and that none of them hears
}

// advertise has the others reach a node through a proxy, and returns its port.
func (p *partition) advertise(node *Server) (int, error) {
	if node.proxy != nil && node.proxied == node.clusterPort {
		return node.proxy.port(), nil
	}
	through, err := startProxy(node.clusterPort, p.sender, func(from *Server) bool { return p.between(from, node) })
	if err != nil {
		return 0, err
	}
	var closed error
	if node.proxy != nil {
		closed = node.proxy.close()
	}
	node.proxy, node.proxied = through, node.clusterPort
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.nodes, node) {
		p.nodes = append(p.nodes, node)
	}
	return through.port(), closed
}

// sender is the node whose end of a connection a port is; nil where it is nobody's any more.
func (p *partition) sender(port int) *Server {
	p.mu.Lock()
	nodes := slices.Clone(p.nodes)
	p.mu.Unlock()
	i := slices.IndexFunc(nodes, func(node *Server) bool { return node.process.running() && ownsPort(node.process.cmd.Process.Pid, port) })
	if i < 0 {
		return nil
	}
	return nodes[i]
}

// between tells whether a cut lies between two nodes.
func (p *partition) between(from, to *Server) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut != nil && (from == p.cut) != (to == p.cut)
}

// set cuts a node off, or nobody any more, and closes the connections that cross the cut.
func (p *partition) set(node *Server) {
	p.mu.Lock()
	p.cut = node
	nodes := slices.Clone(p.nodes)
	p.mu.Unlock()
	for _, node := range nodes {
		node.proxy.closeCut()
	}
}

func (p *partition) close() error {
	var problems []error
	for _, node := range p.nodes {
		problems = append(problems, node.proxy.close())
	}
	return errors.Join(problems...)
}

// Cut keeps a node from hearing the others and from being heard by them, until Heal. Clients and clouds still reach it, and are
// reached by it. One node at a time can be cut off. The cluster must have been started with Options.Cuttable, on Linux.
func (c *Cluster) Cut(node *Server) { c.partition.set(node) }

// Heal ends a cut.
func (c *Cluster) Heal() { c.partition.set(nil) }
