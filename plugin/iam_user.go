// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template/parse"

	"github.com/hashicorp/vault/sdk/helper/template"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// errNameTaken is a user of somebody else's that has the name which a new one was to get.
var errNameTaken = errors.New("the cloud account has a user of that name already, which this mount leaves alone")

// issueWithUser makes a user for this lease alone, and its key.
func (b *backend) issueWithUser(
	ctx context.Context, i issuance, role *roleEntry, plan func() (lifetime.IssuePlan, error),
) (recordedKey, lifetime.IssuePlan, error) {
	key, p, err := b.tryTwice(ctx, i, plan, func(p lifetime.IssuePlan) (recordedKey, error) {
		return b.makeUserKey(ctx, i, role, p)
	})
	if err != nil {
		return recordedKey{}, lifetime.IssuePlan{}, explainUser(i, err)
	}
	return key, p, nil
}

// makeUserKey makes a user with one access key for a lease:
//
//	(1) entry, begun {account, account id, user name, label}
//	    → crash: no user carries the label. The entry goes once no create can be under way
//	(2) create the user, its label in its path
//	    → crash: the next tick finds the user by its label and removes it
//	(3) policies, inline policy and groups, at the same time
//	    → crash: the same; what hangs on the user goes with it
//	(4) create the key, with label and date
//	    → crash: the same; the key is the first to go
//	(5) entry, made {access key, user id}
//	    → crash: no lease knows the key, the ledger does: at its date the reaper removes it and
//	      the user
//	(6) answer
//
// The key comes after the rights, so that its holder never meets a user without them
// (OUTSCALE may take 15 seconds more to apply them). A failure after (1) removes the user
// at once; if that fails too, the next tick tries again.
func (b *backend) makeUserKey(ctx context.Context, i issuance, role *roleEntry, plan lifetime.IssuePlan) (recordedKey, error) {
	name, err := makeUsername(i.account.kind, i.account.config.usernameTemplate(), usernameData{
		RoleName:    i.roleName,
		DisplayName: i.req.DisplayName,
	})
	if err != nil {
		return recordedKey{}, err
	}
	key, err := b.beginKey(ctx, i, keyOrder{kind: keylabel.KindUser, user: name, issued: plan.Issued, expires: plan.Expiry})
	if err != nil {
		return recordedKey{}, err
	}
	defer b.ledger.Abandon(key.entry.Account, key.entry.Label)
	user, err := i.account.cloud.CreateUser(ctx, provider.UserSpec{
		Name: name, Path: cmp.Or(role.UserPath, defaultUserPath), Label: key.entry.Label,
	})
	if provider.KindOf(err) == provider.KindConflict {
		err = fmt.Errorf("user %s: %w: %w", name, errNameTaken, err)
	}
	if err != nil {
		return recordedKey{}, b.undo(ctx, i, key.entry, err)
	}
	key.entry.UserID, key.entry.Certain = user.ID, true
	if err = i.account.cloud.GrantUser(ctx, user, role.rights()); err == nil {
		err = b.createKey(ctx, i, &key)
	}
	if err == nil {
		err = b.finishKey(ctx, i, key)
	}
	if err != nil {
		return recordedKey{}, b.undo(ctx, i, key.entry, err)
	}
	return key, nil
}

// explainUser says what can be done about an issue that failed.
func explainUser(i issuance, err error) error {
	if errors.Is(err, errNameTaken) {
		return userError("role %q cannot get a user: both names that the account's username_template made are taken. Give it more "+
			"randomness (%s)", i.roleName, err)
	}
	switch provider.KindOf(err) {
	case provider.KindNotFound:
		return userError("role %q cannot get a user: something that the role names does not exist. Create it in the cloud account, "+
			"or take it out of the role (%s)", i.roleName, err)
	case provider.KindQuota:
		return userError("role %q cannot get a user: the cloud account has no room for one more user, or the user none for what the "+
			"role gives it (%s)", i.roleName, err)
	case provider.KindConflict:
		return userError("role %q cannot get a user: the cloud refuses what the role gives it (%s)", i.roleName, err)
	default:
		return explain(i.account.name, err)
	}
}

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
