// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

// motoServer is moto as IAM, STS, S3, SQS (for approvals) and Step Functions. It verifies no signature: the signer has a test
// with a vector of its own.
type motoServer struct {
	url     string
	process *emulator.Process
}

func startMoto(ctx context.Context, dir string, env ...string) (*motoServer, error) {
	port, err := emulator.FreePort()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "moto.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(os.Getenv("SAM_VENV"), "bin", "python"), "-m", "moto.server", "-H", "127.0.0.1", "-p", port)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), env...)
	m := &motoServer{url: "http://127.0.0.1:" + port}
	if m.process, err = emulator.Start(cmd, syscall.SIGKILL); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := waitForAnswer(ctx, m.url+"/moto-api/data.json"); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("moto does not come up: %w: %s", err, text), m.stop())
	}
	return m, nil
}

func (m *motoServer) stop() error { return m.process.Stop(syscall.SIGKILL) }

func waitForAnswer(ctx context.Context, address string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(req)
		if err == nil {
			return answer.Body.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// call calls an AWS API of the query kind; moto finds the service in the signature's scope.
func (m *motoServer) call(ctx context.Context, service string, form url.Values, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	text, err := m.send(req, service)
	if err != nil {
		return err
	}
	return xml.Unmarshal(text, answer)
}

func (m *motoServer) send(req *http.Request, service string) ([]byte, error) {
	scope := "test/20260101/" + awsRegion + "/" + service + "/aws4_request"
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+scope+", SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("moto answers %s %s with %d: %s", req.Method, req.URL.Path, resp.StatusCode, text)
	}
	return text, err
}

// role makes an IAM role; one of that name is made anew, with another unique id.
func (m *motoServer) role(t testing.TB, name string) (arn string) {
	t.Helper()
	var answer struct {
		ARN string `xml:"CreateRoleResult>Role>Arn"`
	}
	form := url.Values{"Action": {"CreateRole"}, "Version": {"2010-05-08"}, "RoleName": {name}, "AssumeRolePolicyDocument": {"{}"}}
	if err := m.call(t.Context(), "iam", form, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.ARN
}

func (m *motoServer) deleteRole(t testing.TB, name string) {
	t.Helper()
	var answer struct{}
	form := url.Values{"Action": {"DeleteRole"}, "Version": {"2010-05-08"}, "RoleName": {name}}
	if err := m.call(t.Context(), "iam", form, &answer); err != nil {
		t.Fatal(err)
	}
}

// assume gives the credentials that Lambda would give to a function with the role.
func (m *motoServer) assume(t testing.TB, arn string) map[string]string {
	t.Helper()
	var answer struct {
		AccessKey string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
		SecretKey string `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
		Token     string `xml:"AssumeRoleResult>Credentials>SessionToken"`
	}
	form := url.Values{"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {arn}, "RoleSessionName": {"function"}}
	if err := m.call(t.Context(), "sts", form, &answer); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"AWS_ACCESS_KEY_ID": answer.AccessKey, "AWS_SECRET_ACCESS_KEY": answer.SecretKey, "AWS_SESSION_TOKEN": answer.Token,
		"AWS_REGION": awsRegion,
	}
}

// bucket makes an S3 bucket.
func (m *motoServer) bucket(t testing.TB, name string) {
	t.Helper()
	body := `<CreateBucketConfiguration><LocationConstraint>` + awsRegion + `</LocationConstraint></CreateBucketConfiguration>`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, m.url+"/"+name, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.send(req, "s3"); err != nil {
		t.Fatal(err)
	}
}

// object reads one of a bucket, as s3://bucket/name names it.
func (m *motoServer) object(t testing.TB, place string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.url+"/"+strings.TrimPrefix(place, "s3://"), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.send(req, "s3")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// enableAWS mounts Vault's own AWS auth method, built from the pinned Vault as a plugin, and
// points it at moto.
func enableAWS(ctx context.Context, s *devserver.Server, dir string) error {
	if err := registerAuth(ctx, s, dir, authPlugin); err != nil {
		return err
	}
	writes := []struct {
		path string
		data map[string]any
	}{
		{"sys/auth/aws", map[string]any{"type": authPlugin}},
		{"auth/aws/config/client", map[string]any{
			"sts_endpoint": aws.url, "iam_endpoint": aws.url, "sts_region": awsRegion, "iam_server_id_header_value": serverID,
			"access_key": "test", "secret_key": "test", "max_retries": 1,
		}},
	}
	for _, write := range writes {
		if _, err := s.Client.Logical().WriteWithContext(ctx, write.path, write.data); err != nil {
			return fmt.Errorf("write %s: %w", write.path, err)
		}
	}
	return nil
}
