// SPDX-License-Identifier: Apache-2.0

package vxfld_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/vxfld"
)

// check holds for any bytes: no panic; an error is a *ParseError at an offset
// within the message and comes with the zero value; a message can be written,
// and is the same when it is read again.
func check(t *testing.T, b []byte) {
	m, err := vxfld.Parse(b)
	if err != nil {
		var pe *vxfld.ParseError
		if !errors.As(err, &pe) || pe.Offset < 0 || pe.Offset > len(b) {
			t.Fatalf("got error %#v for %d bytes", err, len(b))
		}
		if m != (vxfld.Message{}) {
			t.Fatalf("got message %+v with error %v", m, err)
		}
		return
	}
	back := roundTrip(t, m)
	if diff := cmp.Diff(m, back, equateAddrs); diff != "" {
		t.Fatalf("encoded and decoded again (-want +got):\n%s", diff)
	}
}

// fuzz seeds f with the vectors of this version and type, without their
// headers, and checks bodies behind that header.
func fuzz(f *testing.F, version vxfld.Version, typ vxfld.Type) {
	for _, v := range vectors(f) {
		if b := unhex(f, v.Hex); len(b) >= 2 && b[0] == byte(version) && b[1] == byte(typ) {
			f.Add(b[2:])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		check(t, append([]byte{byte(version), byte(typ)}, body...))
	})
}

func FuzzRefreshV1(f *testing.F) { fuzz(f, vxfld.V1, vxfld.TypeRefresh) }
func FuzzRefreshV2(f *testing.F) { fuzz(f, vxfld.V2, vxfld.TypeRefresh) }
func FuzzRefreshV3(f *testing.F) { fuzz(f, vxfld.V3, vxfld.TypeRefresh) }
func FuzzProxy(f *testing.F)     { fuzz(f, vxfld.V3, vxfld.TypeProxy) }

func FuzzSync(f *testing.F) {
	// The fields of docs/protocol.md section 7.
	f.Add(unhex(f, "c00701"+"c80701"+"e80705"+"da0702abcd"+
		"121e"+"085b"+"121a"+"0a060a040a010101"+"10ffff03"+"1800"+"e20709"+"0a07c001a80100c801"+
		"1800"+"d00701"))
	fuzz(f, vxfld.V3, vxfld.TypeSync)
}

func FuzzMessage(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(unhex(f, v.Hex))
	}
	f.Fuzz(check)
}
