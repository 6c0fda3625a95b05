// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"slices"
	"text/template/parse"
)

const (
	// maxTemplate is far beyond what a name of 64 characters takes.
	maxTemplate = 1000

	// maxTemplateNumber bounds random and truncate.
	maxTemplateNumber = 256
)

// boundTemplate refuses a username_template that would keep the plugin busy, or fill its
// memory: {{ random 2000000000 }} takes minutes, and {{ range 2000000000 }} does too. There is
// no way to stop a template that runs.
func boundTemplate(text string) error {
	if len(text) > maxTemplate {
		return mendable("username_template has %d characters, and %d is the most", len(text), maxTemplate)
	}
	tree := parse.New("username_template")
	tree.Mode = parse.SkipFuncCheck
	others := map[string]*parse.Tree{}
	if _, err := tree.Parse(text, "", "", others); err != nil {
		return mendable("username_template cannot be read: %s", err)
	}
	for _, defined := range others {
		if !bounded(defined.Root) {
			return mendable("username_template may not have range, template or block, nor numbers above %d", maxTemplateNumber)
		}
	}
	return nil
}

// bounded tells whether nothing under a node can run for long.
func bounded(node parse.Node) bool {
	switch n := node.(type) {
	case *parse.RangeNode, *parse.TemplateNode:
		return false
	case *parse.NumberNode:
		return n.IsInt && n.Int64 <= maxTemplateNumber
	case *parse.ListNode:
		return n == nil || allBounded(n.Nodes)
	case *parse.ActionNode:
		return bounded(n.Pipe)
	case *parse.IfNode:
		return bounded(n.Pipe) && bounded(n.List) && bounded(n.ElseList)
	case *parse.WithNode:
		return bounded(n.Pipe) && bounded(n.List) && bounded(n.ElseList)
	case *parse.PipeNode:
		return n == nil || allBounded(n.Cmds)
	case *parse.CommandNode:
		return allBounded(n.Args)
	case *parse.ChainNode:
		return bounded(n.Node)
	default: // text, fields, names of functions, texts in quotes
		return true
	}
}

func allBounded[N parse.Node](nodes []N) bool {
	return !slices.ContainsFunc(nodes, func(n N) bool { return !bounded(n) })
}
