// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// The types of errors are named with "Vault" again since Lambda reports an error by the bare
// name of its type (errorType), and alarms and retries match that.

// VaultSealedError tells that Vault is sealed, not initialized, or has no active node.
type VaultSealedError struct{ failure }

// VaultDeniedError tells that Vault refuses a login or a path.
type VaultDeniedError struct{ failure }

// VaultUnreachableError tells that no answer came.
type VaultUnreachableError struct{ failure }

// VaultEmptyError tells that nothing is where something must be. It must never be taken
// for "no keys are leased".
type VaultEmptyError struct{ failure }

// VaultFailedError is every other answer that is no success.
type VaultFailedError struct{ failure }

// failure is what was tried, and the answer.
type failure struct {
	what   string
	advice string
	err    error
}

// Error is a sentence for an operator.
func (f failure) Error() string {
	text := f.what + ": " + f.advice
	if f.err != nil {
		text += ": " + oneLine(f.err)
	}
	return text
}

// Unwrap returns what the client said.
func (f failure) Unwrap() error { return f.err }

// oneLine is the client's error, which has many, in one.
func oneLine(err error) string {
	var answer *api.ResponseError
	if errors.As(err, &answer) {
		return fmt.Sprintf("HTTP %d, %s", answer.StatusCode, strings.Join(strings.Fields(strings.Join(answer.Errors, "; ")), " "))
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// explain gives an error of the client its type.
func explain(what string, err error) error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return &VaultUnreachableError{failure{what, "Vault did not answer", err}}
	}
	switch answer.StatusCode {
	case http.StatusServiceUnavailable:
		return &VaultSealedError{failure{what, "Vault is sealed or has no active node: unseal it", err}}
	case http.StatusForbidden:
		return &VaultDeniedError{failure{what, "Vault refuses it: the policies of the role lack this path (docs/functions.md lists " +
			"what they need), or there is no such path: " +
			"see VAULT_ENGINE, VAULT_AUTH_MOUNT and VAULT_NAMESPACE", err}}
	case http.StatusNotFound:
		return &VaultEmptyError{failure{what, "there is no such path: see VAULT_ENGINE, VAULT_AUTH_MOUNT and VAULT_NAMESPACE", err}}
	default:
		return &VaultFailedError{failure{what, "Vault answers with an error", err}}
	}
}

func empty(what, advice string) error {
	return &VaultEmptyError{failure{what: what, advice: advice}}
}

func isDenied(err error) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusForbidden
}
