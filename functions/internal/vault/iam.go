// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/awscall"
)

// whoAmI is the request that Vault sends to STS in the function's name.
const whoAmI = "Action=GetCallerIdentity&Version=2011-06-15"

// iamLogin is the body of a login with Vault's AWS auth method: a GetCallerIdentity that is
// signed here and sent by Vault, which so learns who signed it. The official
// vault/api/auth/aws does the same with the SDK that AWS has retired. The header with the
// server's id is signed as well: a request that was caught cannot be used with another
// Vault.
func iamLogin(ctx context.Context, creds awscall.Credentials, role, serverID string, now time.Time) (map[string]any, error) {
	endpoint, err := awscall.Endpoint(ctx, "sts", creds.Region)
	if err != nil {
		return nil, fmt.Errorf("AWS_REGION: %w", err)
	}
	header := http.Header{}
	if serverID != "" {
		header.Set("X-Vault-AWS-IAM-Server-ID", serverID)
	}
	req, err := awscall.Post(ctx, creds, "sts", endpoint, whoAmI, header, now)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Host", req.Host) // it is signed, and net/http keeps it elsewhere
	headers, err := json.Marshal(req.Header)
	if err != nil {
		return nil, fmt.Errorf("encoding the login: %w", err)
	}
	return map[string]any{
		"role":                    role,
		"iam_http_request_method": req.Method,
		"iam_request_url":         base64.StdEncoding.EncodeToString([]byte(endpoint)),
		"iam_request_body":        base64.StdEncoding.EncodeToString([]byte(whoAmI)),
		"iam_request_headers":     base64.StdEncoding.EncodeToString(headers),
	}, nil
}
