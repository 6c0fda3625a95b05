// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// AWSCredentials are those of the function's execution role.
type AWSCredentials struct {
	AccessKey    string
	SecretKey    provider.Secret
	SessionToken provider.Secret
	Region       string
}

// whoAmI is the request that Vault sends to STS in the function's name.
const whoAmI = "Action=GetCallerIdentity&Version=2011-06-15"

// stsEndpoint is where a region's STS is. The SDK has the partitions' domains in a table that it
// gives out by way of its services' endpoints alone: S3's is of the same form.
func stsEndpoint(ctx context.Context, region string) (string, error) {
	resolved, err := s3.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, s3.EndpointParameters{Region: &region})
	domain, found := strings.CutPrefix(resolved.URI.Host, "s3."+region+".")
	if err != nil || !found {
		return "", fmt.Errorf("AWS_REGION %q makes no address of STS: %w", region, errors.Join(err, errors.New("it is no region that AWS's SDK knows")))
	}
	return "https://sts." + region + "." + domain + "/", nil
}

// iamLogin is the body of a login with Vault's AWS auth method: a GetCallerIdentity that is
// signed here and sent by Vault, which so learns who signed it. The official
// vault/api/auth/aws does the same with the SDK that AWS has retired. The header with the
// server's id is signed as well: a request that was caught cannot be used with another
// Vault.
func iamLogin(ctx context.Context, creds AWSCredentials, role, serverID string, now time.Time) (map[string]any, error) {
	endpoint, err := stsEndpoint(ctx, creds.Region)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(whoAmI))
	if err != nil {
		return nil, fmt.Errorf("AWS_REGION %q makes no address of STS: %w", creds.Region, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if serverID != "" {
		req.Header.Set("X-Vault-AWS-IAM-Server-ID", serverID)
	}
	hash := sha256.Sum256([]byte(whoAmI))
	signing := aws.Credentials{AccessKeyID: creds.AccessKey, SecretAccessKey: creds.SecretKey.Reveal(), SessionToken: creds.SessionToken.Reveal()}
	if err := v4.NewSigner().SignHTTP(ctx, signing, req, hex.EncodeToString(hash[:]), "sts", creds.Region, now); err != nil {
		return nil, fmt.Errorf("signing the login: %w", err)
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
