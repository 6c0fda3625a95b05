// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package awscall signs the few calls of AWS for which the functions have no SDK: one service of
// it is larger than all that they call.
package awscall

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// Credentials are those of the function's execution role.
type Credentials struct {
	AccessKey    string
	SecretKey    provider.Secret
	SessionToken provider.Secret
	Region       string
}

// FromEnvironment reads what Lambda sets.
func FromEnvironment(getenv func(string) string) Credentials {
	return Credentials{
		AccessKey: getenv("AWS_ACCESS_KEY_ID"), SecretKey: provider.Secret(getenv("AWS_SECRET_ACCESS_KEY")),
		SessionToken: provider.Secret(getenv("AWS_SESSION_TOKEN")), Region: getenv("AWS_REGION"),
	}
}

// Endpoint is where a region's service is. The SDK has the partitions' domains in a table that it
// gives out by way of its services' endpoints alone: S3's is of the same form.
func Endpoint(ctx context.Context, service, region string) (string, error) {
	resolved, err := s3.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, s3.EndpointParameters{Region: &region})
	domain, found := strings.CutPrefix(resolved.URI.Host, "s3."+region+".")
	if err != nil || !found {
		return "", fmt.Errorf("the region %q makes no address of "+
			"%s: %w", region, service, errors.Join(err, errors.New("it is none that AWS's SDK knows")))
	}
	return "https://" + service + "." + region + "." + domain + "/", nil
}

// Post is a signed request with a form as its body.
func Post(
	ctx context.Context, creds Credentials, service, endpoint, body string, header http.Header, now time.Time,
) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%q makes no request of %s: %w", endpoint, service, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	for name, values := range header {
		req.Header[name] = values
	}
	hash := sha256.Sum256([]byte(body))
	signing := aws.Credentials{
		AccessKeyID: creds.AccessKey, SecretAccessKey: creds.SecretKey.Reveal(), SessionToken: creds.SessionToken.Reveal(),
	}
	if err := v4.NewSigner().SignHTTP(ctx, signing, req, hex.EncodeToString(hash[:]), service, creds.Region, now); err != nil {
		return nil, fmt.Errorf("signing a call of %s: %w", service, err)
	}
	return req, nil
}
