// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"cmp"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// service is the name in the signature's scope (osc-sdk-go, client.go).
const service = "oapi"

// sign signs with AWS signature version 4 for the account's true region. The SDK
// would sign for eu-west-2 whatever the endpoint, and only once, so that no
// attempt could be repeated.
func sign(accessKey string, secret provider.Secret, region string) transport.Signer {
	signer := sigv4.New()
	return func(req *http.Request, body []byte) error {
		hash := sha256.Sum256(body)
		return signer.SignRequest(&sigv4.SignRequestInput{
			Request:     req,
			PayloadHash: hash[:],
			Credentials: credentials.Credentials{AccessKeyID: accessKey, SecretAccessKey: secret.Reveal()},
			Service:     service,
			Region:      cmp.Or(region, DefaultRegion),
		})
	}
}

// Signer signs single requests with an access key, for those who call the API past the Client.
func Signer(accessKey string, secret provider.Secret, region string) transport.Signer {
	return sign(accessKey, secret, region)
}

// basicDate is the form of the date that goes with a login (OUTSCALE's API description,
// BasicAuth).
const basicDate = "20060102T150405Z"

// signBasic sends the account's own login and password, as X-Osc-Date and basic
// authentication.
func signBasic(login, password provider.Secret) transport.Signer {
	return func(req *http.Request, _ []byte) error {
		req.SetBasicAuth(login.Reveal(), password.Reveal())
		req.Header.Set("X-Osc-Date", time.Now().UTC().Format(basicDate))
		return nil
	}
}
