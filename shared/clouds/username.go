// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package clouds

import (
	"fmt"
	"slices"
	"strings"
	"text/template/parse"
)

// CheckUserName refuses what cannot be the name of a user; field is where it stands.
func (c Cloud) CheckUserName(field, name string) error {
	if !c.users.pattern.MatchString(name) {
		return fmt.Errorf("%s holds %q, which is not the name of a user of %s: %s", field, name, c.Title, c.users.text)
	}
	return nil
}

// UserNameRule is the rule of CheckUserName in words.
func (c Cloud) UserNameRule() string { return c.users.text }

// CleanName puts a hyphen in place of each character that the cloud does not allow in a name.
func (c Cloud) CleanName(name string) string { return c.users.other.ReplaceAllString(name, "-") }

const (
	// maxTemplate is far beyond what a name of 64 characters takes.
	maxTemplate = 1000

	// maxTemplateNumber bounds random and truncate.
	maxTemplateNumber = 256

	// maxTemplateCalls bounds what a template does.
	maxTemplateCalls = 20
)

// TemplateFunctions are those that a username_template can call, of what Vault's templates and
// Go's have. There is no way to stop a template that runs, so none is allowed whose output
// can be longer than what it is given and the numbers in the template.
func TemplateFunctions() []string {
	return []string{
		"random", "truncate", "truncate_sha256", "lowercase", "uppercase", "sha256",
		"unix_time", "unix_time_millis", "timestamp", "uuid", "printf",
	}
}

// CheckTemplate refuses a username_template that could keep the plugin busy, or fill its
// memory: {{ random 2000000000 }} takes minutes, and a variable that is doubled a few dozen
// times fills every machine.
func CheckTemplate(text string) error {
	if len(text) > maxTemplate {
		return fmt.Errorf("username_template has %d characters, and %d is the most", len(text), maxTemplate)
	}
	tree := parse.New("username_template")
	tree.Mode = parse.SkipFuncCheck
	trees := map[string]*parse.Tree{}
	if _, err := tree.Parse(text, "", "", trees); err != nil {
		return fmt.Errorf("username_template cannot be read: %.200s", err)
	}
	if len(trees) > 1 {
		return fmt.Errorf("username_template may not define another template")
	}
	if tree.Root == nil {
		return nil // an empty one, which makes no name
	}
	var walk templateWalk
	if err := walk.node(tree.Root); err != nil {
		return err
	}
	if walk.calls > maxTemplateCalls {
		return fmt.Errorf("username_template calls %d functions, and %d is the most", walk.calls, maxTemplateCalls)
	}
	return nil
}

// templateWalk looks at each part of a template, and knows those parts alone that it allows.
type templateWalk struct{ calls int }

func (w *templateWalk) node(node parse.Node) error {
	switch n := node.(type) {
	case *parse.TextNode, *parse.StringNode, *parse.CommentNode:
		return nil
	case *parse.NumberNode:
		if !n.IsInt || n.Int64 < 0 || n.Int64 > maxTemplateNumber {
			return fmt.Errorf("username_template may not have numbers above %d, or below 0", maxTemplateNumber)
		}
		return nil
	case *parse.FieldNode:
		if len(n.Ident) != 1 || n.Ident[0] != "RoleName" && n.Ident[0] != "DisplayName" {
			return fmt.Errorf("username_template uses %.60q: there are .RoleName and .DisplayName", n.String())
		}
		return nil
	case *parse.ListNode:
		return w.list(n)
	case *parse.ActionNode:
		return w.pipe(n.Pipe)
	case *parse.IfNode:
		if err := w.pipe(n.Pipe); err != nil {
			return err
		}
		if err := w.list(n.List); err != nil {
			return err
		}
		return w.list(n.ElseList)
	case *parse.PipeNode:
		return w.pipe(n)
	default:
		return fmt.Errorf("username_template may not have %.60q: it has texts, {{ if }}, .RoleName, .DisplayName and the functions %s",
			node.String(), strings.Join(TemplateFunctions(), ", "))
	}
}

func (w *templateWalk) list(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		if err := w.node(n); err != nil {
			return err
		}
	}
	return nil
}

func (w *templateWalk) pipe(pipe *parse.PipeNode) error {
	if len(pipe.Decl) > 0 {
		return fmt.Errorf("username_template may not have variables, such as %s", pipe.Decl[0])
	}
	for _, command := range pipe.Cmds {
		if err := w.command(command); err != nil {
			return err
		}
	}
	return nil
}

func (w *templateWalk) command(command *parse.CommandNode) error {
	called, isCall := command.Args[0].(*parse.IdentifierNode)
	if !isCall {
		return w.nodes(command.Args)
	}
	w.calls++
	if !slices.Contains(TemplateFunctions(), called.Ident) {
		return fmt.Errorf("username_template cannot call %.60q: there are %s", called.Ident, strings.Join(TemplateFunctions(), ", "))
	}
	if called.Ident == "printf" {
		if err := checkPrintf(command.Args[1:]); err != nil {
			return err
		}
	}
	return w.nodes(command.Args[1:])
}

func (w *templateWalk) nodes(nodes []parse.Node) error {
	for _, n := range nodes {
		if called, isCall := n.(*parse.IdentifierNode); isCall { // {{ printf "%s" uuid }}
			if err := w.command(&parse.CommandNode{Args: []parse.Node{called}}); err != nil {
				return err
			}
			continue
		}
		if err := w.node(n); err != nil {
			return err
		}
	}
	return nil
}

// checkPrintf takes a format of %s and %d alone: %2000000000d fills the memory.
func checkPrintf(args []parse.Node) error {
	format, isText := (*parse.StringNode)(nil), false
	if len(args) > 0 {
		format, isText = args[0].(*parse.StringNode)
	}
	if !isText {
		return fmt.Errorf("username_template must give printf its format as a text, such as \"vault-%%s\"")
	}
	rest := format.Text
	for {
		_, verb, found := strings.Cut(rest, "%")
		switch {
		case !found:
			return nil
		case verb == "" || !strings.Contains("sd%", verb[:1]):
			return fmt.Errorf("username_template may have %%s and %%d in printf, without a width")
		}
		rest = verb[1:]
	}
}
