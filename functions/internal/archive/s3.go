// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// putTimeout bounds the storing of a file that is written: reports and states are also stored
// after a cancelled run.
const putTimeout = 20 * time.Second

// Bucket is an archive in S3.
type Bucket struct {
	name   string
	client *s3.Client
}

// Environment names what FromEnvironment reads, beside what Lambda itself sets.
func Environment() []string { return []string{"REPORT_BUCKET"} }

// FromEnvironment returns the bucket that REPORT_BUCKET names; nil where it names none. The
// credentials are those of the function's role, which Lambda leaves in the environment, so
// that the SDK's packages that search for them elsewhere are not needed. AWS_ENDPOINT_URL_S3 names another store than AWS's, which
// gets the bucket in the path, or with REPORT_BUCKET_STYLE=virtual in the host's name: OBS takes nothing else. The checksums that
// such stores refuse are added only by the SDK's package config, which is not used here.
func FromEnvironment(getenv func(string) string) Archive {
	name := getenv("REPORT_BUCKET")
	if name == "" || getenv("AWS_SAM_LOCAL") == "true" && strings.ToLower(name) != name {
		return nil // sam local puts the bucket's logical id there, and no bucket has capitals in its name
	}
	options := s3.Options{
		Region: cmp.Or(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION")),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{
				AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: getenv("AWS_SESSION_TOKEN"),
			}, nil
		}),
	}
	if endpoint := getenv("AWS_ENDPOINT_URL_S3"); endpoint != "" { // the SDK's own name for it
		options.BaseEndpoint, options.UsePathStyle = &endpoint, getenv("REPORT_BUCKET_STYLE") != "virtual"
	}
	return &Bucket{name: name, client: s3.New(options)}
}

// Put implements Archive, by way of a temporary file: S3 wants the length first.
func (b *Bucket) Put(ctx context.Context, name, contentType string, write func(io.Writer) error) (string, error) {
	file, err := os.CreateTemp("", "report-")
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := write(file); err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	_, err = b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: &name, ContentType: &contentType, Body: file})
	if err != nil {
		return "", fmt.Errorf("storing %s in the bucket %s: %w", name, b.name, err)
	}
	return "s3://" + b.name + "/" + name, nil
}

// Get implements Archive. Without the right to list the bucket, S3 answers that reading an
// object that does not exist is forbidden, which is an error here.
func (b *Bucket) Get(ctx context.Context, name string) ([]byte, error) {
	answer, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &name})
	var missing *types.NoSuchKey
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s from the bucket %s: %w", name, b.name, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("reading %s from the bucket %s: %w", name, b.name, err)
	}
	return text, nil
}
