// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package notify tells the owners of keys that these will be switched off: by a topic of SNS, or
// by a webhook.
package notify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/awscall"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// timeout bounds one message.
const timeout = 10 * time.Second

// To returns what sends messages to a target: the ARN of a topic, or an https address, as the
// setting NOTIFY has it. A message was accepted where there is no error.
func To(target string, getenv func(string) string) func(context.Context, sweep.Message) error {
	client := &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, m sweep.Message) error {
		request := webhook
		if strings.HasPrefix(target, "arn:") {
			request = topic
		}
		body, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("writing the message: %w", err)
		}
		req, err := request(ctx, target, body, getenv)
		if err != nil {
			return err
		}
		req.GetBody = nil // else net/http repeats the message by itself over HTTP/2, as often as a gateway resets its stream
		resp, err := client.Do(req)
		if err != nil {
			var named *url.Error // it names the whole address, which is all that protects many a webhook
			if errors.As(err, &named) {
				err = named.Err
			}
			return fmt.Errorf("sending the message: %w", err)
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			said, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // as much as there is of it
			return fmt.Errorf("the message was not accepted: HTTP %d, %q", resp.StatusCode, said)
		}
		return nil
	}
}

func webhook(ctx context.Context, target string, body []byte, _ func(string) string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("NOTIFY makes no request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// topic publishes with the function's own role, in the topic's region.
func topic(ctx context.Context, target string, body []byte, getenv func(string) string) (*http.Request, error) {
	creds := awscall.FromEnvironment(getenv)
	creds.Region = strings.Split(target, ":")[3]
	endpoint, err := awscall.Endpoint(ctx, "sns", creds.Region)
	if endpoint = cmp.Or(getenv("AWS_ENDPOINT_URL_SNS"), endpoint); endpoint == "" {
		return nil, err
	}
	form := url.Values{
		"Action": {"Publish"}, "Version": {"2010-03-31"}, "TopicArn": {target}, "Message": {string(body)},
		"Subject": {"Access keys that will be switched off"},
	}
	return awscall.Post(ctx, creds, "sns", endpoint, form.Encode(), nil, time.Now())
}
