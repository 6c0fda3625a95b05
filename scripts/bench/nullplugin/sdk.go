// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build sdk

package main

import _ "github.com/outscale/osc-sdk-go/v2" // for what it does at a start
