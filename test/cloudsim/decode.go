// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"encoding/json"
	"reflect"
)

// decode reads a request into a struct whose fields are pointers named as the API's parameters. encoding/json alone would
// match names regardless of case and report wrong types less exactly.
func decode(body []byte, request any) *apiError {
	if fields, ok := request.(*map[string]json.RawMessage); ok { // the operation judges them itself
		if err := json.Unmarshal(body, fields); err != nil || *fields == nil {
			return errParameterType("request")
		}
		return nil
	}
	return decodeObject("request", body, reflect.ValueOf(request).Elem())
}

func decodeObject(name string, raw json.RawMessage, into reflect.Value) *apiError {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return errParameterType(name)
	}
	for name, value := range fields {
		field := into.FieldByName(name)
		if !field.IsValid() {
			return errUnknownParameter(name)
		}
		if refusal := decodeValue(name, value, field); refusal != nil {
			return refusal
		}
	}
	return nil
}

func decodeValue(name string, raw json.RawMessage, field reflect.Value) *apiError {
	if string(raw) == "null" {
		return errParameterType(name)
	}
	if field.Kind() == reflect.Pointer && field.Type().Elem().Kind() == reflect.Struct {
		field.Set(reflect.New(field.Type().Elem()))
		return decodeObject(name, raw, field.Elem())
	}
	if err := json.Unmarshal(raw, field.Addr().Interface()); err != nil {
		return errParameterType(name)
	}
	return nil
}
