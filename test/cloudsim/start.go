// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// Start serves the cloud on a loopback port until the test ends and returns the endpoint, /api/v1 included.
func (c *Cloud) Start(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return server.URL + strings.TrimSuffix(apiPath, "/")
}

// StartHuawei serves the same cloud on a loopback port until the test ends and returns Huawei's endpoint, without a path.
func (c *Cloud) StartHuawei(t testing.TB) string {
	t.Helper()
	return strings.TrimSuffix(c.Start(t), strings.TrimSuffix(apiPath, "/"))
}
