// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// newAPI is OUTSCALE's own SDK, as an application uses it: nothing of the engine is in the way.
func newAPI(endpoint string, transport *http.Transport) *osc.APIClient {
	config := osc.NewConfiguration()
	config.Servers = osc.ServerConfigurations{{URL: endpoint}}
	// A proxy from the environment is for other hosts than this one.
	config.HTTPClient = &http.Client{Transport: transport, Timeout: 15 * time.Second}
	return osc.NewAPIClient(config)
}

// signedBy has the SDK sign with a key.
func signedBy(ctx context.Context, key cloudsim.Credentials) context.Context {
	return context.WithValue(ctx, osc.ContextAWSv4, osc.AWSv4{AccessKey: key.AccessKey, SecretKey: key.SecretKey})
}

// readVMs counts the virtual machines that a key sees.
func (c *cloud) readVMs(ctx context.Context, key cloudsim.Credentials) (int, error) {
	answer, _, err := c.api.VmApi.ReadVms(signedBy(ctx, key)).ReadVmsRequest(osc.ReadVmsRequest{}).Execute()
	if err != nil {
		return 0, refused(err)
	}
	return len(answer.GetVms()), nil
}

func (c *cloud) setPolicy(ctx context.Context, life time.Duration) error {
	_, _, err := c.api.ApiAccessPolicyApi.UpdateApiAccessPolicy(signedBy(ctx, c.root)).
		UpdateApiAccessPolicyRequest(osc.UpdateApiAccessPolicyRequest{MaxAccessKeyExpirationSeconds: int64(life.Seconds())}).Execute()
	if err != nil {
		return refused(err)
	}
	return nil
}

// refusal is an answer of the cloud that says no.
type refusal struct {
	status string // as in "400 Bad Request"
	typ    string
	code   string
}

// Error reads as "400 Bad Request, InvalidParameterValue, code 4120".
func (r *refusal) Error() string { return fmt.Sprintf("%s, %s, code %s", r.status, r.typ, r.code) }

// refused finds the cloud's answer in an error of the SDK. An error that holds none is returned as it is.
func refused(err error) error {
	var sdk osc.GenericOpenAPIError
	var answer osc.ErrorResponse
	if !errors.As(err, &sdk) || json.Unmarshal(sdk.Body(), &answer) != nil || len(answer.GetErrors()) == 0 {
		return err
	}
	first := answer.GetErrors()[0]
	return &refusal{status: sdk.Error(), typ: first.GetType(), code: first.GetCode()}
}
