// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
)

func TestWhoseAnswersAreBelieved(t *testing.T) {
	prefix := netip.MustParsePrefix
	tests := []struct {
		name, value string
		want        config.AnswerFrom
		text        string
	}{
		{"any", "ANY", config.AnswerFrom{Any: true}, "any"},
		{"service", "Service", config.AnswerFrom{Service: true}, "service"},
		{"prefixes", "192.0.2.0/24, 2001:db8::1 ::ffff:192.0.2.0/120",
			config.AnswerFrom{Prefixes: []netip.Prefix{prefix("192.0.2.0/24"), prefix("2001:db8::1/128")}}, "192.0.2.0/24 2001:db8::1/128"},
		{"both", "192.0.2.1 service", config.AnswerFrom{Service: true, Prefixes: []netip.Prefix{prefix("192.0.2.1/32")}}, "service 192.0.2.1/32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := config.Parse(config.Vxrd, "f", []byte("answer_from = "+tt.value), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, r.Config.AnswerFrom, compareAddr); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got := r.Config.AnswerFrom.String(); got != tt.text {
				t.Errorf("got %q, want %q", got, tt.text)
			}
		})
	}
}

func TestValuesOfVxrdThatAreRefused(t *testing.T) {
	tests := []struct{ line, want string }{
		{"answer_from =", "a value is missing (any, service, or prefixes)"},
		{"answer_from = none", `"none" is none of any, service, or a prefix (ADDRESS/LENGTH) or an address`},
		{"answer_from = any, service", "any believes everybody, so that nothing can stand beside it"},
		{"answer_from = 192.0.2.1/24", `"192.0.2.1/24" has bits set behind its length, 192.0.2.0/24 has not`},
		{"hrep_devices = vx1 vx/2", `"vx/2" is not the name of a network device (up to 15 bytes, no blank, slash, colon, comma or quote)`},
		{"stale_time = never", `"never" is not a number of whole seconds (0..4294967295)`},
		{"svcnode_ip = 192.0.2.1 ::", ":: is the wildcard, which stands alone"},
		{"svcnode_ip = ,", "an address is missing"},
		{"local_addr = 224.0.0.1", "224.0.0.1 is not a unicast address"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			_, err := config.Parse(config.Vxrd, "f", []byte(tt.line), nil)
			key, _, _ := strings.Cut(tt.line, " ")
			if want := "f:1: " + key + ": " + tt.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestListsOfVxrd(t *testing.T) {
	flag := func(option, value string) config.Flag {
		return config.Flag{Name: "--" + option, Option: option, Value: value}
	}
	r, err := config.Parse(config.Vxrd, "f", []byte("hrep_devices = a\nsvcnode_ip = 192.0.2.9\nanswer_from = any\n"), []config.Flag{
		flag("hrep_devices", "vx1,vx2"), flag("hrep_devices", "vx1"), flag("answer_from", "service"), flag("answer_from", "192.0.2.0/24"),
		flag("address", "192.0.2.1 192.0.2.2"), flag("svcnode_ip", "::ffff:192.0.2.1"),
	})
	want := "svcnode_ip = 192.0.2.1 192.0.2.2\nhrep_devices = vx1 vx2\nanswer_from = service 192.0.2.0/24\n"
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, describe(config.Vxrd, r, "")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if r.Config.InstallSvcnodeIP {
		t.Error("got an address of a service node that is to be installed, want none on a VTEP")
	}
}
