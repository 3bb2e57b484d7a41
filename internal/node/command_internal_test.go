// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// host returns the address of a VTEP.
func host(i byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, i}) }

// newNode returns a node that has opened nothing.
func newNode(t *testing.T, change ...func(*config.Config)) *Node {
	t.Helper()
	cfg := config.Default()
	cfg.NoFlood = true
	for _, f := range change {
		f(&cfg)
	}
	n, err := New(cfg, nil)
	check(t, err)
	return n
}

// put makes entries of a source that live for ever.
func put(t *testing.T, n *Node, src fdb.Source, vni vxlan.VNI, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		if src == fdb.Data {
			n.table.Learn(clock(), []fdb.Learned{{VNI: vni, Addr: a}})
			continue
		}
		if _, ok := refusal(n.table.Apply(clock(), []fdb.Update{{VNI: vni, Addr: a, Source: src, Holdtime: fdb.Static}})); !ok {
			t.Fatalf("%s in VNI %s is refused", a, vni)
		}
	}
}

// give does a command and hands each piece of its answer to each.
func give(ctx context.Context, t *testing.T, n *Node, name string, args any, each func(any) error, receive func() (json.RawMessage, error)) error {
	t.Helper()
	raw, err := json.Marshal(args)
	check(t, err)
	for _, c := range n.Commands(func() control.Status { return control.Status{} }) {
		if c.Name == name {
			return c.Run(ctx, control.NewCall(raw, each, receive))
		}
	}
	t.Fatalf("there is no command %s", name)
	return nil
}

// ask does a command whose answer is of one or more pieces of type T.
func ask[T any](t *testing.T, n *Node, name string, args any) (pieces []T, err error) {
	t.Helper()
	err = give(t.Context(), t, n, name, args, func(v any) error {
		pieces = append(pieces, decoded[T](t, v))
		return nil
	}, nil)
	return pieces, err
}

// decoded returns what a client reads of v.
func decoded[T any](t *testing.T, v any) (out T) {
	t.Helper()
	b, err := json.Marshal(v)
	check(t, err)
	check(t, json.Unmarshal(b, &out))
	return out
}

// uploads returns what hands over parts as an upload, and then an error.
func uploads(t *testing.T, end error, parts ...any) func() (json.RawMessage, error) {
	t.Helper()
	return func() (json.RawMessage, error) {
		if len(parts) == 0 {
			return nil, end
		}
		b, err := json.Marshal(parts[0])
		parts = parts[1:]
		return b, err
	}
}

// wantError checks that err is for a client, with this code, and with words in
// its text and its hint.
func wantError(t *testing.T, err error, code, text, hint string) *control.Error {
	t.Helper()
	var e *control.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error with code %s", err, code)
	}
	if e.Code != code || !strings.Contains(e.Text, text) || !strings.Contains(e.Hint, hint) {
		t.Errorf("got %s: %s (hint: %s), want %s: …%s… (hint: …%s…)", e.Code, e.Text, e.Hint, code, text, hint)
	}
	return e
}

type object map[string]any

func TestArgumentsThatCommandsDoNotTake(t *testing.T) {
	n := newNode(t)
	tests := []struct {
		name, command string
		args          any
		text          string
	}{
		{"unknown", control.CommandShow, object{"colour": 1}, "colour"},
		{"vni", control.CommandFDB, object{"vni": 1 << 24}, "vni 16777216 is out of range 0..16777215"},
		{"source", control.CommandFDB, object{"source": "oracle"}, `source "oracle" is none of data, registration, operator, configuration, peer`},
		{"prefix", control.CommandFDB, object{"vtep": "192.0.2.0"}, `args is not understood: "192.0.2.0": no '/'`},
		{"vni to add in", control.CommandFDBAdd, object{"vni": 1 << 24, "address": "192.0.2.1"}, "vni 16777216"},
		{"vni to delete in", control.CommandFDBDel, object{"vni": 1 << 24, "address": "192.0.2.1"}, "vni 16777216"},
		{"multicast", control.CommandFDBAdd, object{"vni": 1, "address": "239.0.0.1"}, "239.0.0.1 cannot be the address of a VTEP"},
		{"loopback", control.CommandFDBAdd, object{"vni": 1, "address": "::1"}, "::1 cannot be"},
		{"zone", control.CommandFDBAdd, object{"vni": 1, "address": "fe80::1%eth0"}, "fe80::1%eth0 cannot be"},
		{"no address", control.CommandFDBAdd, object{"vni": 1}, "no address is named"},
		{"no vni", control.CommandFDBAdd, object{"address": "192.0.2.1"}, "no vni is named"},
		{"null for a vni", control.CommandFDBAdd, object{"vni": nil, "address": "192.0.2.1"}, "no vni is named"},
		{"no vni to delete in", control.CommandFDBDel, object{"address": "192.0.2.1"}, "no vni is named"},
		{"no address to delete", control.CommandFDBDel, object{"vni": 1}, "no address is named"},
		{"vni of another type", control.CommandFDBAdd, object{"vni": "1", "address": "192.0.2.1"}, "args is not understood: vni takes no string"},
		{"no object", control.CommandFDBAdd, []int{1}, "args is not an object"},
		{"no VTEP", control.CommandVTEP, object{}, "no address"},
		{"vni of figures", control.CommandStats, object{"vni": 1 << 24}, "vni 16777216"},
		{"vni to explain", control.CommandExplain, object{"vni": 1 << 24, "source": "192.0.2.1"}, "vni 16777216"},
		{"no vni to explain", control.CommandExplain, object{"source": "192.0.2.1"}, "no vni is named"},
		{"null for a vni to explain", control.CommandExplain, object{"vni": nil, "source": "192.0.2.1"}, "no vni is named"},
		{"explain without arguments", control.CommandExplain, nil, "no vni is named"},
		{"no source", control.CommandExplain, object{"vni": 1}, "no source"},
		{"TTL", control.CommandExplain, object{"vni": 1, "source": "192.0.2.1", "ttl": 256}, "ttl 256 is out of range 0..255"},
		{"length", control.CommandExplain, object{"vni": 1, "source": "192.0.2.1", "length": 65500}, "length 65500 is out of range 0..65499"},
		{"negative length", control.CommandExplain, object{"vni": 1, "source": "192.0.2.1", "length": -1}, "length -1"},
		{"vni to capture", control.CommandCapture, object{"vni": 1 << 24}, "vni 16777216"},
		{"no vni to capture", control.CommandCapture, object{"count": 1}, "no vni is named"},
		{"null for a vni to capture", control.CommandCapture, object{"vni": nil}, "no vni is named"},
		{"capture without arguments", control.CommandCapture, nil, "no vni is named"},
		{"count", control.CommandCapture, object{"vni": 1, "count": -1}, "not negative"},
		{"vni to watch", control.CommandMonitor, object{"vni": 1 << 24}, "vni 16777216"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ask[any](t, n, tt.command, tt.args)
			wantError(t, err, control.CodeBadArgument, tt.text, "")
		})
	}
}

// What changes something, or shows what tenants send, is not for everybody.
func TestCommandsThatAreNotForEverybody(t *testing.T) {
	var got []string
	for _, c := range newNode(t).Commands(nil) {
		if c.Changes {
			got = append(got, c.Name)
		}
	}
	want := []string{control.CommandFDBAdd, control.CommandFDBDel, control.CommandFDBFile, control.CommandCapture}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFilters(t *testing.T) {
	n := newNode(t)
	put(t, n, fdb.Operator, 5, host(1), host(2))
	put(t, n, fdb.Configuration, 5, host(1))
	put(t, n, fdb.Configuration, 6, host(1), netip.MustParseAddr("2001:db8::1"))
	put(t, n, fdb.Registration, 7, host(9))
	tests := []struct {
		name string
		args object
		want string
	}{
		{"all", object{}, "5 192.0.2.1 operator, 5 192.0.2.1 configuration, 5 192.0.2.2 operator, 6 192.0.2.1 configuration, 6 2001:db8::1 configuration, 7 192.0.2.9 registration"},
		{"VNI", object{"vni": 6}, "6 192.0.2.1 configuration, 6 2001:db8::1 configuration"},
		{"VTEP", object{"vtep": "192.0.2.1/32"}, "5 192.0.2.1 operator, 5 192.0.2.1 configuration, 6 192.0.2.1 configuration"},
		{"prefix", object{"vtep": "192.0.2.8/29"}, "7 192.0.2.9 registration"},
		{"prefix of the other family", object{"vtep": "2001:db8::/32"}, "6 2001:db8::1 configuration"},
		{"source", object{"source": "operator"}, "5 192.0.2.1 operator, 5 192.0.2.2 operator"},
		{"all of these", object{"vni": 5, "vtep": "192.0.2.1/32", "source": "configuration"}, "5 192.0.2.1 configuration"},
		{"none", object{"vni": 7, "source": "data"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parts, err := ask[control.FDBPart](t, n, control.CommandFDB, tt.args)
			check(t, err)
			var got []string
			for _, part := range parts {
				for _, e := range part {
					got = append(got, strings.Join([]string{vxlan.VNI(e.VNI).String(), e.Address.String(), e.Source}, " "))
				}
			}
			if got := strings.Join(got, ", "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

var errBroken = errors.New("client is gone")
