// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package vault is what the functions need of Vault: a login that ends with the run, the
// accounts, the ledger, a short-lived key for each account, and the mount's limits.
package vault

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/awscall"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// The ways to log in.
const (
	AuthAWS        = "aws"
	AuthAppRole    = "approle"
	AuthToken      = "token"
	AuthKubernetes = "kubernetes"
	AuthJWT        = "jwt"
)

// serviceAccountToken is where Kubernetes puts a pod's own.
const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// accountMark stands for an account's name in VAULT_CREDS_ROLE.
const accountMark = "{account}"

// Config is where Vault is and how to log in.
type Config struct {
	Engine    string // mount of the secrets engine
	CredsRole string // role that leases the function's own keys; {account} stands for the account's name
	Auth      string // one of the Auth constants
	AuthMount string
	AuthRole  string // of the AWS, Kubernetes or JWT auth method
	JWTFile   string // holds the token of the Kubernetes and JWT auth methods, read at each login
	ServerID  string // value of X-Vault-AWS-IAM-Server-ID; empty: not sent
	RoleID    string // of AppRole
	SecretID  provider.Secret
	Token     provider.Secret
	AWS       awscall.Credentials
}

// Environment names what this package reads from the environment. The first few are read
// by Vault's own client, which knows more of them; these are those that a function needs.
func Environment() []string {
	return []string{
		"VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_CACERT_BYTES", "VAULT_CLIENT_TIMEOUT", "VAULT_MAX_RETRIES",
		"VAULT_ENGINE", "VAULT_CREDS_ROLE", "VAULT_AUTH_METHOD", "VAULT_AUTH_MOUNT", "VAULT_AUTH_ROLE", "VAULT_IAM_SERVER_ID",
		"VAULT_ROLE_ID", "VAULT_SECRET_ID", "VAULT_TOKEN", "VAULT_JWT_FILE",
	}
}

// ReadConfig reads the settings. ok is false where VAULT_ADDR is not set: the function then
// works without Vault.
func ReadConfig(getenv func(string) string) (c Config, ok bool, err error) {
	if getenv("VAULT_ADDR") == "" {
		return Config{}, false, nil
	}
	c = Config{
		Engine:    strings.Trim(cmp.Or(getenv("VAULT_ENGINE"), "cloudkeys"), "/"),
		CredsRole: cmp.Or(getenv("VAULT_CREDS_ROLE"), "functions-"+accountMark),
		Auth:      cmp.Or(getenv("VAULT_AUTH_METHOD"), AuthAWS),
		AuthRole:  getenv("VAULT_AUTH_ROLE"),
		ServerID:  getenv("VAULT_IAM_SERVER_ID"),
		RoleID:    getenv("VAULT_ROLE_ID"),
		JWTFile:   getenv("VAULT_JWT_FILE"),
		AWS:       awscall.FromEnvironment(getenv),
		SecretID:  provider.Secret(getenv("VAULT_SECRET_ID")),
		Token:     provider.Secret(getenv("VAULT_TOKEN")),
	}
	if c.Auth == AuthKubernetes {
		c.JWTFile = cmp.Or(c.JWTFile, serviceAccountToken)
	}
	c.AuthMount = strings.Trim(cmp.Or(getenv("VAULT_AUTH_MOUNT"), c.Auth), "/")
	return c, true, c.check(inLambda(getenv))
}

// inLambda tells a function that runs at AWS from one that `sam local` runs.
func inLambda(getenv func(string) string) bool {
	at := getenv("AWS_EXECUTION_ENV") != "" || getenv("AWS_LAMBDA_RUNTIME_API") != ""
	return at && getenv("AWS_SAM_LOCAL") != "true"
}

func (c Config) check(lambda bool) error {
	switch c.Auth {
	case AuthAWS:
		if c.AuthRole == "" {
			return errors.New("VAULT_AUTH_ROLE is empty: name the role of Vault's AWS auth method that this function is bound to")
		}
		if c.AWS.AccessKey == "" || c.AWS.SecretKey == "" || c.AWS.Region == "" {
			return errors.New("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION are needed for Vault's AWS auth method: Lambda " +
				"sets them; elsewhere set them, or choose another VAULT_AUTH_METHOD")
		}
	case AuthAppRole:
		if c.RoleID == "" || c.SecretID == "" {
			return errors.New("VAULT_AUTH_METHOD is approle: set VAULT_ROLE_ID and VAULT_SECRET_ID")
		}
	case AuthKubernetes, AuthJWT:
		if c.AuthRole == "" {
			return fmt.Errorf("VAULT_AUTH_ROLE is empty: name the role of Vault's %s auth method", c.Auth)
		}
		if c.JWTFile == "" {
			return errors.New("VAULT_AUTH_METHOD is jwt: set VAULT_JWT_FILE to the file that holds the token")
		}
	case AuthToken:
		if lambda {
			return errors.New("VAULT_AUTH_METHOD is token, which is for local runs only: a token in a function's environment is read by " +
				"all who may see its configuration; use aws")
		}
		if c.Token == "" {
			return errors.New("VAULT_AUTH_METHOD is token: set VAULT_TOKEN")
		}
	default:
		return fmt.Errorf("VAULT_AUTH_METHOD is %q: it must be aws, approle, kubernetes, jwt or token", c.Auth)
	}
	return nil
}

// roleOf is the role that leases the function's key on an account.
func (c Config) roleOf(account string) string {
	return strings.ReplaceAll(c.CredsRole, accountMark, account)
}
