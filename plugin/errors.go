// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// badRequestError is what the operator or the caller can put right. It becomes an
// HTTP 400, which Vault's clients do not retry.
type badRequestError struct{ message string }

// Error implements error.
func (e *badRequestError) Error() string { return e.message }

func userError(format string, args ...any) error {
	return &badRequestError{message: fmt.Sprintf(format, args...)}
}

// errPanicked is what a request is answered that met a mistake of ours.
var errPanicked = errors.New("internal error: the plugin met a mistake of its own and has written it to the server's log; please report it")

// recovered turns a panic into an error, so that it costs one request and not the process, which
// serves every mount of the plugin. It must be deferred itself.
func (b *backend) recovered(what string, err *error) {
	cause := recover()
	if cause == nil {
		return
	}
	b.metrics.panics.Add(1)
	b.Logger().Error("panic", "in", what, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
	*err = errPanicked
}

// safely runs what a goroutine of ours does: a panic there ends the process, whoever is asking.
func (b *backend) safely(what string, do func() error) (err error) {
	defer b.recovered(what, &err)
	return do()
}

// asUserError marks an error of what somebody has written, which names what to correct.
func asUserError(err error) error {
	if err == nil {
		return nil
	}
	return &badRequestError{message: err.Error()}
}

// respond turns an error into what Vault is to answer: a logical.ErrorResponse
// for what can be fixed, a Go error for the rest.
func respond(err error) (*logical.Response, error) {
	var m *badRequestError
	if errors.As(err, &m) {
		return logical.ErrorResponse("%s", err.Error()), nil
	}
	return nil, err
}

// explain adds to a cloud's error what the operator can do about it. The cloud's
// code and request id stay in the text.
func explain(account string, err error) error {
	var refused *provider.Error
	if !errors.As(err, &refused) {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("account %q: the cloud did not answer in time: %w", account, err)
		case errors.Is(err, provider.ErrUnlisted):
			return fmt.Errorf("account %q: %w", account, err)
		}
		return err
	}
	if refused.Kind == provider.KindUnknown && refused.Status == http.StatusNotFound && refused.Code == "" {
		return userError("what answers at the endpoint of account %q is not the cloud's API: check endpoint and region in config/%s "+
			"(%s)", account, account, err)
	}
	switch refused.Kind {
	case provider.KindKeyRefused:
		return userError("the cloud refuses the access key of account %q: check that secret_key is right, and that the key exists, "+
			"is active and has not expired, then write a working one to config/%s, which tries it at once; this one is tried again "+
			"by itself, ever more rarely (%s)", account, account, err)
	case provider.KindKeyUnclear:
		return userError("the cloud does not know the access key of account %q, or the key belongs to another region than the configured one: "+
			"check access_key and region in config/%s (%s)", account, account, err)
	case provider.KindLockedOut:
		return userError("the API of account %q is locked, since some program signs with a key that the cloud refuses; it need not "+
			"be the engine's. The engine tries again by itself when the lock is over: find that program meanwhile (%s)", account, err)
	case provider.KindClockWrong:
		return userError("the cloud finds the time of the requests of account %q wrong, and nothing else is known to be: set the "+
			"clock of Vault's machine by NTP (15 minutes are the most that it may be off); the engine then goes on by itself (%s)",
			account, err)
	case provider.KindDenied:
		return userError("the cloud does not permit this to the engine's key of account %q: "+
			"give its user the permission for the named call, or check the account's API access rules (%s)", account, err)
	case provider.KindInvalid:
		return userError("the cloud refuses the request for account %q (%s)", account, err)
	case provider.KindThrottled:
		return fmt.Errorf("account %q: the cloud throttles the account, for as long as the request could wait; nothing was done, and "+
			"asking again is harmless. All programs of the cloud account share its rate: whoever runs them may lower the load, who "+
			"may write config/%s its max_requests_per_second: %w", account, account, err)
	case provider.KindUnreachable:
		if refused.Status != 0 {
			return fmt.Errorf("account %q: what answers is not in a state to serve, or not the cloud's API; check the endpoint if "+
				"this lasts: %w", account, err)
		}
		var dns *net.DNSError
		if errors.As(err, &dns) && dns.IsNotFound {
			regions := ""
			if strings.HasSuffix(dns.Name, ".outscale.com") { // there the region is part of the name
				regions = ": OUTSCALE's are eu-west-2, cloudgouv-eu-west-1 and others"
			}
			return userError("the address of account %q does not exist, since %s does not resolve: check endpoint and region in config/%s%s (%s)",
				account, dns.Name, account, regions, err)
		}
		return fmt.Errorf("account %q: the cloud cannot be reached; check endpoint, network and certificates: %w", account, err)
	default:
		return fmt.Errorf("account %q: %w", account, err)
	}
}
