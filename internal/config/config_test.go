// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxsnd/internal/config"
)

func TestDefaultIsWhatAnEmptyFileGives(t *testing.T) {
	for _, p := range []config.Program{config.Vxsnd, config.Vxrd} {
		r, err := config.Parse(p, "empty.conf", nil, nil)
		if err != nil || len(r.Warnings) > 0 {
			t.Fatalf("%s: got %v and warnings %v, want none", p, err, r.Warnings)
		}
		if diff := diffConfig(config.DefaultFor(p), r.Config); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", p, diff)
		}
	}
}

var compareAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// diffConfig compares what files and programs can see of two configurations.
func diffConfig(want, got config.Config) string { return cmp.Diff(want, got, compareAddr) }
