// SPDX-License-Identifier: Apache-2.0

package vxlan_test

import (
	"bytes"
	"errors"
	"testing"

	"vxsnd/internal/vxlan"
)

func TestParseHeader(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want vxlan.VNI
		err  error
	}{
		{"plain", []byte{8, 0, 0, 0, 0, 0, 77, 0}, 77, nil},
		{"largest", []byte{8, 0, 0, 0, 255, 255, 255, 0}, vxlan.MaxVNI, nil},
		{"reserved bits are ignored", []byte{0xff, 1, 2, 3, 1, 2, 3, 0xff, 9}, 0x010203, nil},
		{"no I flag", []byte{0xf7, 0, 0, 0, 0, 0, 77, 0}, 0, vxlan.ErrNoVNI},
		{"seven bytes", []byte{8, 0, 0, 0, 0, 0, 77}, 0, vxlan.ErrShort},
		{"nothing", nil, 0, vxlan.ErrShort},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := vxlan.ParseHeader(tt.in)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %v, %v, want %v, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestParseVNI(t *testing.T) {
	for _, s := range []string{"", "-1", "16777216", "0x10", "1 ", "4294967297", "ten"} {
		if v, err := vxlan.ParseVNI(s); err == nil {
			t.Errorf("ParseVNI(%q): got %v, want an error", s, v)
		}
	}
	for s, want := range map[string]vxlan.VNI{"0": 0, "42": 42, "16777215": vxlan.MaxVNI} {
		if got, err := vxlan.ParseVNI(s); got != want || err != nil {
			t.Errorf("ParseVNI(%q): got %v, %v, want %v", s, got, err, want)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte{8, 0, 0, 0, 0, 0, 77, 0})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 77, 0})
	f.Add([]byte{8})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := vxlan.ParseHeader(b)
		if err != nil {
			if v != 0 {
				t.Errorf("got %v beside the error %v, want 0", v, err)
			}
			return
		}
		again, err := vxlan.ParseHeader(vxlan.AppendHeader(nil, v))
		if again != v || err != nil {
			t.Errorf("round trip: got %v, %v, want %v", again, err, v)
		}
		if !bytes.Equal(vxlan.AppendHeader(nil, v)[4:7], b[4:7]) {
			t.Errorf("header of %v does not carry the bytes of %x", v, b[:8])
		}
	})
}
