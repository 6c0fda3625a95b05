// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// mendableError is what the operator or the caller can put right. It becomes an
// HTTP 400, which Vault's clients do not retry.
type mendableError struct{ message string }

// Error implements error.
func (e *mendableError) Error() string { return e.message }

func mendable(format string, args ...any) error {
	return &mendableError{message: fmt.Sprintf(format, args...)}
}

// asUserError marks an error of what somebody has written, which names what to correct.
func asUserError(err error) error {
	if err == nil {
		return nil
	}
	return &mendableError{message: err.Error()}
}

// respond turns an error into what Vault is to answer: a logical.ErrorResponse
// for what can be mended, a Go error for the rest.
func respond(err error) (*logical.Response, error) {
	var m *mendableError
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
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("account %q: the cloud did not answer in time: %w", account, err)
		}
		return err
	}
	if refused.Kind == provider.KindUnknown && refused.Status == http.StatusNotFound && refused.Code == "" {
		return mendable("what answers at the endpoint of account %q is not the cloud's API: check endpoint and region in config/%s (%s)", account, account, err)
	}
	switch refused.Kind {
	case provider.KindKeyRefused:
		return mendable("the cloud refuses the access key of account %q: check that it exists, is active and has not expired, "+
			"then write a working one to config/%s, which tries it at once (%s)", account, account, err)
	case provider.KindKeyUnclear:
		return mendable("the cloud does not know the access key of account %q, or the key belongs to another region than the configured one: "+
			"check access_key and region in config/%s (%s)", account, account, err)
	case provider.KindLockedOut:
		return mendable("the cloud has locked the API of account %q after refused keys: wait some minutes, "+
			"then make sure that nothing uses a deleted or expired key (%s)", account, err)
	case provider.KindDenied:
		return mendable("the cloud does not permit this to the engine's key of account %q: "+
			"give its user the permission for the named call, or check the account's API access rules (%s)", account, err)
	case provider.KindInvalid:
		return mendable("the cloud refuses the request for account %q (%s)", account, err)
	case provider.KindThrottled:
		return fmt.Errorf("account %q: the cloud throttles the account; lower max_requests_per_second if this lasts: %w", account, err)
	case provider.KindUnreachable:
		if refused.Status != 0 {
			return fmt.Errorf("account %q: what answers is not in a state to serve, or not the cloud's API; check the endpoint if this lasts: %w", account, err)
		}
		return fmt.Errorf("account %q: the cloud cannot be reached; check endpoint, network and certificates: %w", account, err)
	default:
		return fmt.Errorf("account %q: %w", account, err)
	}
}
