// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"slices"
	"strings"
	"text/template/parse"

	"github.com/hashicorp/vault/sdk/helper/template"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
)

const (
	// defaultUsernameTemplate makes names of 47 characters at most, which every cloud takes: a name
	// that is cut at the cloud's limit would lose the random part, which comes last.
	defaultUsernameTemplate = `{{ printf "vault-%s-%s" (.RoleName | truncate 20) (random 20) }}`

	// maxTemplate is far beyond what a name of 64 characters takes.
	maxTemplate = 1000

	// maxTemplateNumber bounds random and truncate.
	maxTemplateNumber = 256

	// maxTemplateCalls bounds what a template does.
	maxTemplateCalls = 20

	// maxDisplayName is how much of a token's display name a template gets.
	maxDisplayName = 64
)

// templateFunctions are those that a username_template can call, of what Vault's templates and
// Go's have. There is no way to stop a template that runs, so none is allowed whose output
// can be longer than what it is given and the numbers in the template.
var templateFunctions = []string{
	"random", "truncate", "truncate_sha256", "lowercase", "uppercase", "sha256",
	"unix_time", "unix_time_millis", "timestamp", "uuid", "printf",
}

// usernameData is what a username_template can use.
type usernameData struct {
	RoleName    string
	DisplayName string // of the token that asks
}

// makeUsername renders a template, and refuses what the cloud would. Display names of tokens
// have other characters than it allows, after the mail address or path that somebody logged in
// with. No error holds what was rendered.
func makeUsername(cloud clouds.Cloud, text string, data usernameData) (string, error) {
	parsed, err := template.NewTemplate(template.Template(text))
	if err != nil {
		return "", userError("username_template cannot be read: %.200s", err)
	}
	data.RoleName = cloud.CleanName(data.RoleName)
	display := []rune(data.DisplayName)
	data.DisplayName = cloud.CleanName(string(display[:min(len(display), maxDisplayName)]))
	name, err := parsed.Generate(data)
	if err != nil {
		return "", userError("username_template cannot be used: %.200s", err)
	}
	if cloud.CheckUserName("", name) != nil {
		return "", userError("username_template makes a user name of %d characters which %s does not take: %s are allowed. "+
			"Shorten parts of it, as in {{ .DisplayName | truncate 20 }}", len([]rune(name)), cloud.Title, cloud.UserNameRule())
	}
	return name, nil
}

// checkUsernameTemplate tries a template twice. One that makes the same name again could
// give out one key alone, and would take the second for somebody else's user.
func checkUsernameTemplate(cloud clouds.Cloud, text string) error {
	if err := boundTemplate(text); err != nil {
		return err
	}
	sample := usernameData{RoleName: "example", DisplayName: "token-example"}
	first, err := makeUsername(cloud, text, sample)
	if err != nil {
		return err
	}
	second, err := makeUsername(cloud, text, sample)
	if err != nil {
		return err
	}
	if strings.EqualFold(first, second) {
		return userError("username_template made the same user name twice: add randomness, as in {{ random 20 }}")
	}
	return nil
}

// boundTemplate refuses a username_template that could keep the plugin busy, or fill its
// memory: {{ random 2000000000 }} takes minutes, and a variable that is doubled a few dozen
// times fills every machine.
func boundTemplate(text string) error {
	if len(text) > maxTemplate {
		return userError("username_template has %d characters, and %d is the most", len(text), maxTemplate)
	}
	tree := parse.New("username_template")
	tree.Mode = parse.SkipFuncCheck
	trees := map[string]*parse.Tree{}
	if _, err := tree.Parse(text, "", "", trees); err != nil {
		return userError("username_template cannot be read: %.200s", err)
	}
	if len(trees) > 1 {
		return userError("username_template may not define another template")
	}
	if tree.Root == nil {
		return nil // an empty one, which makes no name
	}
	var walk templateWalk
	if err := walk.node(tree.Root); err != nil {
		return err
	}
	if walk.calls > maxTemplateCalls {
		return userError("username_template calls %d functions, and %d is the most", walk.calls, maxTemplateCalls)
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
			return userError("username_template may not have numbers above %d, or below 0", maxTemplateNumber)
		}
		return nil
	case *parse.FieldNode:
		if len(n.Ident) != 1 || n.Ident[0] != "RoleName" && n.Ident[0] != "DisplayName" {
			return userError("username_template uses %.60q: there are .RoleName and .DisplayName", n.String())
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
		return userError("username_template may not have %.60q: it has texts, {{ if }}, .RoleName, .DisplayName and the functions %s",
			node.String(), strings.Join(templateFunctions, ", "))
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
		return userError("username_template may not have variables, such as %s", pipe.Decl[0])
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
	if !slices.Contains(templateFunctions, called.Ident) {
		return userError("username_template cannot call %.60q: there are %s", called.Ident, strings.Join(templateFunctions, ", "))
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
		return userError("username_template must give printf its format as a text, such as \"vault-%%s\"")
	}
	rest := format.Text
	for {
		_, verb, found := strings.Cut(rest, "%")
		switch {
		case !found:
			return nil
		case verb == "" || !strings.Contains("sd%", verb[:1]):
			return userError("username_template may have %%s and %%d in printf, without a width")
		}
		rest = verb[1:]
	}
}
