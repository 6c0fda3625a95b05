// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"maps"
	"strings"
	"testing"
)

func environment(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

// inAWS is what Lambda sets.
var inAWS = map[string]string{
	"AWS_EXECUTION_ENV": "AWS_Lambda_provided.al2023", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
	"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "AWS_SESSION_TOKEN": "ST", "AWS_REGION": "eu-west-3",
}

func TestTheWaysToLogIn(t *testing.T) {
	cases := map[string]struct {
		lambda bool
		env    map[string]string
		want   string // in the error; empty: accepted
	}{
		"AWS by default":                   {true, map[string]string{"VAULT_AUTH_ROLE": "r"}, ""},
		"AWS without a role":               {true, nil, "VAULT_AUTH_ROLE is empty"},
		"AWS outside Lambda, without keys": {false, map[string]string{"VAULT_AUTH_ROLE": "r"}, "AWS_ACCESS_KEY_ID"},
		"AppRole": {
			false, map[string]string{"VAULT_AUTH_METHOD": "approle", "VAULT_ROLE_ID": "i", "VAULT_SECRET_ID": "s"}, "",
		},
		"AppRole without its secret": {
			false, map[string]string{"VAULT_AUTH_METHOD": "approle", "VAULT_ROLE_ID": "i"}, "VAULT_SECRET_ID",
		},
		"a token on a developer's machine": {false, map[string]string{"VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": "t"}, ""},
		"a token in Lambda is refused":     {true, map[string]string{"VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": "t"}, "local runs only"},
		"a token in sam local": {
			true, map[string]string{"VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": "t", "AWS_SAM_LOCAL": "true"}, "",
		},
		"a token where only the runtime is seen": {
			false, map[string]string{"VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": "t", "AWS_LAMBDA_RUNTIME_API": "x"}, "local runs only",
		},
		"no token":                     {false, map[string]string{"VAULT_AUTH_METHOD": "token"}, "set VAULT_TOKEN"},
		"a Kubernetes service account": {false, map[string]string{"VAULT_AUTH_METHOD": "kubernetes", "VAULT_AUTH_ROLE": "r"}, ""},
		"Kubernetes without a role":    {false, map[string]string{"VAULT_AUTH_METHOD": "kubernetes"}, "VAULT_AUTH_ROLE is empty"},
		"a JWT from a file": {
			false, map[string]string{"VAULT_AUTH_METHOD": "jwt", "VAULT_AUTH_ROLE": "r", "VAULT_JWT_FILE": "/jwt"}, "",
		},
		"a JWT from nowhere": {
			false, map[string]string{"VAULT_AUTH_METHOD": "jwt", "VAULT_AUTH_ROLE": "r"}, "VAULT_JWT_FILE",
		},
		"an unknown method": {false, map[string]string{"VAULT_AUTH_METHOD": "ldap"}, `VAULT_AUTH_METHOD is "ldap"`},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"VAULT_ADDR": "https://vault.example.com"}
			if test.lambda {
				maps.Copy(env, inAWS)
			}
			maps.Copy(env, test.env)
			config, ok, err := ReadConfig(environment(env))
			if !ok || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %+v, %v and error %v, want %q", config, ok, err, test.want)
			}
		})
	}
}

func TestWithoutAnAddressThereIsNoVault(t *testing.T) {
	if _, ok, err := ReadConfig(environment(map[string]string{"VAULT_TOKEN": "t"})); ok || err != nil {
		t.Errorf("got %v and error %v", ok, err)
	}
}

func TestDefaultsAndTheRoleOfAnAccount(t *testing.T) {
	env := map[string]string{"VAULT_ADDR": "https://vault.example.com", "VAULT_AUTH_ROLE": "r"}
	maps.Copy(env, inAWS)
	config, _, err := ReadConfig(environment(env))
	if err != nil || config.Engine != "cloudkeys" || config.AuthMount != "aws" || config.roleOf("prod") != "functions-prod" {
		t.Errorf("got %+v and error %v", config, err)
	}
	env["VAULT_ENGINE"], env["VAULT_AUTH_MOUNT"], env["VAULT_CREDS_ROLE"] = "/team/outscale/", "aws-eu/", "sweeper"
	config, _, err = ReadConfig(environment(env))
	if err != nil || config.Engine != "team/outscale" || config.AuthMount != "aws-eu" || config.roleOf("prod") != "sweeper" {
		t.Errorf("got %+v and error %v", config, err)
	}
}
