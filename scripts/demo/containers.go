// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// What containers on this machine need of the demo: the server and the clouds on an address that they reach, such as that of
// Docker's bridge, the clouds behind TLS, since the engine speaks plain http to loopback alone, and what the companion functions
// log in and work with.

const (
	functionsUser   = "functions"
	functionsPolicy = "cloudkeys-functions"
	policyFile      = "docs/examples/policies/vault-functions.hcl" // as of the repository, in which make runs the demo
)

var (
	outscaleFunctions = []string{
		"api:ReadUsers", "api:ReadAccounts", "api:ReadAccessKeys", "api:UpdateAccessKey", "api:DeleteAccessKey",
		"api:ReadApiAccessPolicy", "api:UpdateApiAccessPolicy",
	}
	huaweiFunctions = []string{
		"iam:users:listUsers", "iam:credentials:listCredentials", "iam:credentials:getCredential",
		"iam:credentials:updateCredential", "iam:credentials:deleteCredential",
	}
)

// secure has a listener speak TLS as on, with a certificate that is its own authority, and returns that and a transport that trusts it.
func secure(listener net.Listener, on string) (net.Listener, string, *http.Transport, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", nil, fmt.Errorf("make a key for the simulated cloud: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "simulated cloud"}, NotAfter: time.Now().AddDate(0, 1, 0),
		NotBefore: time.Now().Add(-time.Minute), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{on},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(on); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, "", nil, fmt.Errorf("make a certificate for the simulated cloud: %w", err)
	}
	trusted := x509.NewCertPool()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	trusted.AppendCertsFromPEM(text)
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}
	client := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted}}
	return tls.NewListener(listener, config), string(text), client, nil
}

// configureFunctions makes what an operator of the functions does once: in each cloud a user with their rights, on each mount a role
// that leases its keys, and a policy and a token for them.
func (d *demo) configureFunctions(ctx context.Context) error {
	d.out.step("A user, a role and a policy for the companion functions")
	d.cloud.account.AddUser(functionsUser, outscaleFunctions...)
	d.cloud.domain.AddUser(functionsUser, huaweiFunctions...)
	text, err := os.ReadFile(policyFile)
	if err != nil {
		return fmt.Errorf("read the policy of the functions: %w", err)
	}
	policy := string(text) + "path \"sys/leases/revoke\" { capabilities = [\"update\"] }\n" // of the leases alone: the token stays
	for _, mounted := range []string{mount, huaweiMount} {
		path := mounted + "/roles/functions-default"
		d.out.command("%s write %s user_names=%s ttl=10m", d.cli(), path, functionsUser)
		if _, err := d.server.Client.Logical().WriteWithContext(ctx, path, map[string]any{"user_names": functionsUser, "ttl": "10m"}); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, mount+"/") {
			policy += strings.ReplaceAll(line, mount+"/", huaweiMount+"/")
		}
	}
	d.out.command("%s policy write %s %s", d.cli(), functionsPolicy, policyFile)
	if err := d.server.Client.Sys().PutPolicyWithContext(ctx, functionsPolicy, policy); err != nil {
		return fmt.Errorf("write the policy %s: %w", functionsPolicy, err)
	}
	d.out.command("%s token create -policy=%s -no-default-policy", d.cli(), functionsPolicy)
	token, err := d.server.Client.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{
		Policies: []string{functionsPolicy}, NoDefaultPolicy: true, TTL: "24h",
	})
	if err != nil {
		return fmt.Errorf("create a token for the functions: %w", err)
	}
	d.functionsToken = token.Auth.ClientToken
	return nil
}

// printForFunctions prints what sam local takes from the shell.
func (d *demo) printForFunctions() {
	d.out.line("\nPaste into the shell that runs `sam local` (docs/functions.md):\n")
	d.out.line("export VAULT_ADDR=" + d.server.Addr())
	d.out.line("export VAULT_TOKEN=" + d.functionsToken)
}
