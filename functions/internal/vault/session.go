// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

// closeTimeout bounds Close, which runs when the function's own time is over. After a
// SIGTERM, Lambda leaves half a second.
const closeTimeout = 5 * time.Second

// Session is a login to Vault. It is safe for concurrent use, and must be closed.
type Session struct {
	config Config
	client *api.Client
	hangUp func() // closes the connections that are not in use
	log    *slog.Logger

	mu     sync.Mutex
	tokens []string  // of this session's logins, the last in use
	leases []string  // of a token that is not ours to revoke
	began  time.Time // when the token in use was given out, and when it ends; zero: not known
	ends   time.Time
}

// connections is how many are kept open to Vault: one for each of the most WORKERS.
const connections = 32

// Open logs in.
func Open(ctx context.Context, config Config, log *slog.Logger) (*Session, error) {
	settings := api.DefaultConfig() // reads VAULT_ADDR and the like
	if settings.Error != nil {
		return nil, fmt.Errorf("reading Vault's settings from the environment: %w", settings.Error)
	}
	base, err := harden(settings)
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(settings)
	if err != nil {
		return nil, fmt.Errorf("making a client of Vault: %w", err)
	}
	client.ClearToken() // one that the client may have found in the environment
	s := &Session{config: config, client: client, hangUp: base.CloseIdleConnections, log: log}
	if config.Auth == AuthToken {
		client.SetToken(config.Token.Reveal())
		return s, nil
	}
	if err := s.login(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// harden takes from the environment what could weaken the connection (VAULT_SKIP_VERIFY), puts
// the guard before it, and keeps a lease from being asked for twice.
func harden(settings *api.Config) (*http.Transport, error) {
	base, ok := settings.HttpClient.Transport.(*http.Transport)
	if !ok || base.TLSClientConfig == nil {
		return nil, errors.New("making a client of Vault: its transport is not the one that is known to verify certificates")
	}
	base.TLSClientConfig.InsecureSkipVerify = false
	base.TLSClientConfig.MinVersion = tls.VersionTLS12
	base.MaxIdleConnsPerHost = connections // the default is a few: the other workers would shake hands for each request
	// Over HTTP/2, which Vault's client has switched on, net/http repeats a request by itself as often as its stream is reset.
	base.TLSNextProto, base.TLSClientConfig.NextProtos = map[string]func(string, *tls.Conn) http.RoundTripper{}, nil
	// Over HTTP/1.1 it repeats a GET whose connection was in use before and is closed in place of an answer.
	once := base.Clone()
	once.DisableKeepAlives = true
	settings.DisableRedirects = true
	settings.CheckRetry = again
	settings.HttpClient.Transport = guard{next: base, once: once}
	return base, nil
}

// login takes a new token.
func (s *Session) login(ctx context.Context) error {
	path := "auth/" + s.config.AuthMount + "/login"
	what := "logging in to Vault at " + path
	body := map[string]any{"role_id": s.config.RoleID, "secret_id": s.config.SecretID.Reveal()}
	switch s.config.Auth {
	case AuthAWS:
		var err error
		if body, err = iamLogin(ctx, s.config.AWS, s.config.AuthRole, s.config.ServerID, time.Now()); err != nil {
			return err
		}
	case AuthKubernetes, AuthJWT:
		jwt, err := os.ReadFile(s.config.JWTFile)
		if err != nil {
			return &VaultUnreachableError{failure{what, "the token to log in with cannot be read (VAULT_JWT_FILE)", err}}
		}
		body = map[string]any{"role": s.config.AuthRole, "jwt": strings.TrimSpace(string(jwt))}
	}
	timeout := answerTimeout
	if len(s.tokens) > 0 {
		timeout = laterAnswerTimeout
	}
	ctx, cancel := awaiting(ctx, timeout)
	defer cancel()
	secret, err := s.client.Logical().WriteWithContext(ctx, path, body)
	if err != nil {
		return explain(what, err)
	}
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return empty(what, "the answer holds no token")
	}
	s.tokens, s.began = append(s.tokens, secret.Auth.ClientToken), time.Now()
	if s.ends = (time.Time{}); secret.Auth.LeaseDuration > 0 {
		s.ends = s.began.Add(time.Duration(secret.Auth.LeaseDuration) * time.Second)
	}
	s.client.SetToken(secret.Auth.ClientToken)
	return nil
}

// do does a request, and does it again with a new login where Vault denies it: a token
// may have ended or been revoked meanwhile. A second denial is believed.
func (s *Session) do(ctx context.Context, what string, request func() (*api.Secret, error)) (*api.Secret, error) {
	used := s.client.Token()
	secret, err := request()
	if isDenied(err) && s.renew(ctx, used) {
		secret, err = request()
	}
	if err != nil {
		return nil, explain(what, err)
	}
	return secret, nil
}

// renew logs in once more, whoever of many asks first. The former token is kept until
// Close: it may be alive, and a leased key with it.
func (s *Session) renew(ctx context.Context, used string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client.Token() != used {
		return true
	}
	// A denial of a token that is hardly used is meant; an old one may have ended.
	if s.config.Auth == AuthToken || len(s.tokens) > 1 && time.Since(s.began) < time.Minute {
		return false
	}
	if err := s.login(ctx); err != nil {
		s.log.WarnContext(ctx, "Vault denied a request, and a new login", "problem", err.Error())
		return false
	}
	return true
}

// Close revokes the session's tokens, and with them the keys that were leased. It heeds no
// cancellation of ctx, since it is what a cancelled run must still do. No connection is left
// open: Lambda freezes the process between invocations, and Vault would be left with them.
func (s *Session) Close(ctx context.Context) error {
	defer s.hangUp()
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var errs []error
	for _, lease := range s.leases {
		if err := s.client.Sys().RevokeWithContext(ctx, lease); err != nil {
			errs = append(errs, explain("revoking the lease "+lease, err))
		}
	}
	for _, token := range s.tokens {
		s.client.SetToken(token)
		if err := s.client.Auth().Token().RevokeSelfWithContext(ctx, ""); err != nil {
			errs = append(errs, explain("revoking the function's own token", err))
		}
	}
	s.tokens, s.leases = nil, nil
	return errors.Join(errs...)
}
