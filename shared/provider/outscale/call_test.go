// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"encoding/json"
	"reflect"
	"testing"

	osc "github.com/outscale/osc-sdk-go/v2"
)

func TestRequestsOfLeases(t *testing.T) {
	for name, request := range map[string]struct{ ours, sdks any }{
		"CreateAccessKey": {new(createAccessKeyRequest), new(osc.CreateAccessKeyRequest)},
		"UpdateAccessKey": {new(updateAccessKeyRequest), new(osc.UpdateAccessKeyRequest)},
		"DeleteAccessKey": {new(deleteAccessKeyRequest), new(osc.DeleteAccessKeyRequest)},
	} {
		t.Run(name+" without any field is written as the SDK writes it", func(t *testing.T) {
			mustWriteTheSame(t, request.ours, request.sdks)
		})
		t.Run(name+" with all fields is written as the SDK writes it", func(t *testing.T) {
			fill(t, request.ours)
			fill(t, request.sdks)
			mustWriteTheSame(t, request.ours, request.sdks)
		})
	}
}

// fill gives every field of a request a value of its own.
func fill(t *testing.T, request any) {
	t.Helper()
	fields := reflect.ValueOf(request).Elem()
	for i := range fields.NumField() {
		name, field := fields.Type().Field(i).Name, fields.Field(i)
		if field.Kind() == reflect.Pointer {
			field.Set(reflect.New(field.Type().Elem()))
			field = field.Elem()
		}
		switch field.Kind() {
		case reflect.String:
			field.SetString(name + "<&>")
		case reflect.Bool:
			field.SetBool(true)
		default:
			t.Fatalf("field %s is a %s, which this test does not fill", name, field.Kind())
		}
	}
}

func mustWriteTheSame(t *testing.T, ours, sdks any) {
	t.Helper()
	var got, want map[string]any
	for value, written := range map[any]*map[string]any{ours: &got, sdks: &want} {
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, written); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, the SDK writes %v", got, want)
	}
}
