// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

// leaderTimeout bounds the wait for a new leader. Raft elects one within seconds, and
// the new leader then loads its mounts and leases.
const leaderTimeout = 3 * time.Minute

// Cluster is several servers on one raft storage, each a process with ports and data of
// its own. Its methods may not be called at the same time as one another.
type Cluster struct {
	// Nodes are the servers, whether they run or not. All clients hold the root token.
	Nodes []*Server

	partition *partition // nil: no node can be cut off
}

// StartCluster starts so many servers that form a cluster, and returns when each of
// them answers requests, by itself or by forwarding them. o is as for Start; each node
// has a directory of its own in o.Dir. Nothing is left running where it fails.
func StartCluster(ctx context.Context, o Options, nodes int) (*Cluster, error) {
	if o.Dev || o.Port != 0 {
		return nil, errors.New("a cluster has raft storage and picks its ports: leave out Dev and Port")
	}
	c := &Cluster{}
	if o.Cuttable {
		if !canTellSenders {
			return nil, errors.New("which node a connection is from is known on Linux alone: leave out Cuttable")
		}
		c.partition = &partition{}
		o.partition = c.partition
	}
	for i := range nodes {
		node := o
		node.node = "node-" + strconv.Itoa(i+1)
		node.Dir = filepath.Join(o.Dir, node.node)
		if err := c.add(ctx, node); err != nil {
			return nil, errors.Join(fmt.Errorf("start of %s: %w", node.node, err), c.Kill())
		}
	}
	if err := c.complete(ctx); err != nil {
		return nil, errors.Join(err, c.Kill())
	}
	return c, nil
}

// complete waits until every node has a vote, since one without cannot take over, and
// answers requests.
func (c *Cluster) complete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	first := c.Nodes[0]
	_, err := first.Client.Logical().WriteWithContext(ctx, "sys/storage/raft/autopilot/configuration",
		map[string]any{"server_stabilization_time": "1s"})
	if err != nil {
		return fmt.Errorf("shorten the time before a new node gets its vote: %w", err)
	}
	if err := first.waitFor(ctx, "every node had a vote", func() bool { return c.voters(ctx) == len(c.Nodes) }); err != nil {
		return err
	}
	return c.waitForLeader(ctx, nil)
}

// voters counts the nodes that can elect a leader and become one.
func (c *Cluster) voters(ctx context.Context) int {
	answer, err := c.Nodes[0].Client.Logical().ReadWithContext(ctx, "sys/storage/raft/configuration")
	if err != nil || answer == nil {
		return 0
	}
	config, _ := answer.Data["config"].(map[string]any)
	servers, _ := config["servers"].([]any)
	voters := 0
	for _, server := range servers {
		if fields, _ := server.(map[string]any); fields["voter"] == true {
			voters++
		}
	}
	return voters
}

// add starts a node. The first one initializes the storage, and the others join it.
func (c *Cluster) add(ctx context.Context, o Options) error {
	o, err := o.resolve()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	s := &Server{options: o}
	bringUp := s.initialize
	if len(c.Nodes) > 0 {
		bringUp = func(ctx context.Context) error { return s.join(ctx, c.Nodes[0]) }
	}
	if err := s.bringUp(ctx, bringUp); err != nil {
		return err
	}
	c.Nodes = append(c.Nodes, s)
	return nil
}

// join makes the server a node of another one's cluster. What it shares with that one
// are the unseal key and the root token.
func (s *Server) join(ctx context.Context, first *Server) error {
	s.unsealKey = first.unsealKey
	s.Client.SetToken(first.Token())
	answer, err := s.Client.Sys().RaftJoinWithContext(ctx, &api.RaftJoinRequest{LeaderAPIAddr: first.Addr()})
	if err != nil {
		return fmt.Errorf("join the cluster at %s: %w", first.Addr(), err)
	}
	if !answer.Joined {
		return fmt.Errorf("the cluster at %s has not taken the node on", first.Addr())
	}
	return s.Unseal(ctx)
}

// Leader is the node that is active now.
func (c *Cluster) Leader(ctx context.Context) (*Server, error) {
	for _, node := range c.running() {
		health, err := node.Client.Sys().HealthWithContext(ctx)
		if err == nil && active(health) {
			return node, nil
		}
	}
	return nil, errors.New("no node of the cluster is active")
}

// Standbys are the running nodes that are not active now.
func (c *Cluster) Standbys(ctx context.Context) []*Server {
	return slices.DeleteFunc(c.running(), func(node *Server) bool {
		health, err := node.Client.Sys().HealthWithContext(ctx)
		return err != nil || !standby(health)
	})
}

// StepDown has the leader give up being active, and returns when another node serves.
func (c *Cluster) StepDown(ctx context.Context) error {
	leader, err := c.Leader(ctx)
	if err != nil {
		return err
	}
	if err := leader.Client.Sys().StepDownWithContext(ctx); err != nil {
		return fmt.Errorf("step the leader down: %w", err)
	}
	return c.waitForLeader(ctx, leader)
}

// Restart starts a node again after its end, and returns when it answers requests, by
// itself or by forwarding them.
func (c *Cluster) Restart(ctx context.Context, node *Server) error {
	if err := node.Restart(ctx); err != nil {
		return err
	}
	return c.waitForLeader(ctx, nil)
}

// KillLeader ends the leader and its plugins with SIGKILL, as the loss of its machine
// does, and returns it when another node serves: Restart brings it back.
func (c *Cluster) KillLeader(ctx context.Context) (killed *Server, err error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return nil, err
	}
	if err := leader.Kill(); err != nil {
		return nil, err
	}
	return leader, c.waitForLeader(ctx, leader)
}

// waitForLeader waits until a node other than the last leader is active and every
// running node answers requests that only an active one can.
func (c *Cluster) waitForLeader(ctx context.Context, last *Server) error {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		leader, err := c.Leader(ctx)
		if err == nil && leader == last {
			err = fmt.Errorf("%s still is the leader", last.options.node)
		}
		if err == nil {
			err = c.serves(ctx, leader)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("time was up before the cluster had a new leader: %w", err)
		case <-ticker.C:
		}
	}
}

// serves asks every running node whether it knows the leader and answers requests. A
// standby of OpenBao answers some by itself, so that answers alone are no proof.
func (c *Cluster) serves(ctx context.Context, leader *Server) error {
	for _, node := range c.running() {
		known, err := node.Client.Sys().LeaderWithContext(ctx)
		if err == nil && known.LeaderAddress != leader.Addr() {
			err = fmt.Errorf("it takes %q for the leader, which is %s", known.LeaderAddress, leader.Addr())
		}
		if err == nil {
			_, err = node.Client.Sys().CapabilitiesSelfWithContext(ctx, "sys/mounts")
		}
		if err != nil {
			return fmt.Errorf("%s does not answer requests: %w", node.options.node, err)
		}
	}
	return nil
}

func (c *Cluster) running() []*Server {
	return slices.DeleteFunc(slices.Clone(c.Nodes), func(node *Server) bool { return !node.process.running() })
}

// Stop ends all nodes as an operator does, the leader last, so that nobody is elected
// meanwhile.
func (c *Cluster) Stop(ctx context.Context) error {
	nodes := c.running()
	if leader, err := c.Leader(ctx); err == nil {
		nodes = append(slices.DeleteFunc(nodes, func(node *Server) bool { return node == leader }), leader)
	}
	var problems []error
	for _, node := range nodes {
		problems = append(problems, node.Stop(ctx))
	}
	if c.partition != nil {
		problems = append(problems, c.partition.close())
	}
	return errors.Join(problems...)
}

// Kill ends all nodes and their plugins with SIGKILL.
func (c *Cluster) Kill() error {
	var problems []error
	for _, node := range c.Nodes {
		problems = append(problems, node.Kill())
	}
	return errors.Join(problems...)
}
