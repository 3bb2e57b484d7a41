// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// entries returns the table as a client sees it, without times.
func entries(t *testing.T, n *Node) (out []string) {
	t.Helper()
	parts, err := ask[control.FDBPart](t, n, control.CommandFDB, object{})
	check(t, err)
	for _, part := range parts {
		for _, e := range part {
			out = append(out, vxlan.VNI(e.VNI).String()+" "+e.Address.String()+" "+e.Source)
		}
	}
	return out
}

func change(vni uint32, a netip.Addr) control.FDBChange {
	return control.FDBChange{VNI: vni, Address: a}
}

func TestOperatorAddsAMember(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.SvcnodeIP = host(100) })
	for i, want := range []bool{true, false} {
		got, err := ask[control.FDBChanged](t, n, control.CommandFDBAdd, change(5, host(1)))
		check(t, err)
		if len(got) != 1 || got[0] != (control.FDBChanged{Changed: want}) {
			t.Errorf("time %d: got %+v, want changed %v", i, got, want)
		}
	}
	_, err := ask[control.FDBChanged](t, n, control.CommandFDBAdd, change(5, netip.MustParseAddr("::ffff:192.0.2.2")))
	check(t, err)
	if got, want := n.table.Members(clock(), 5, nil), []netip.Addr{host(1), host(2)}; !slices.Equal(got, want) {
		t.Errorf("got members %v, want %v", got, want)
	}
	n.guard.setOwn([]netip.Addr{host(50)})
	for a, want := range map[netip.Addr]string{
		host(50):  "192.0.2.50 gets no copies: it is an address of this machine",
		host(100): "192.0.2.100 gets no copies: it is the address of this service node",

		netip.MustParseAddr("2001:db8::1"): "2001:db8::1 gets no copies: neither svcnode_ip nor src_ip is an address of its family",
	} {
		got, err := ask[control.FDBChanged](t, n, control.CommandFDBAdd, change(5, a))
		check(t, err)
		if !got[0].Changed || got[0].Warning != want {
			t.Errorf("got %+v, want a warning: %s", got[0], want)
		}
	}
}

func TestOperatorIsToldWhatOptionToRaise(t *testing.T) {
	tests := []struct {
		name  string
		limit func(*config.Config)
		add   control.FDBChange
		hint  string
	}{
		{"VNIs", func(c *config.Config) { c.Limits.MaxVNIs = 1 }, change(6, host(1)), "raise max_vnis"},
		{"members", func(c *config.Config) { c.Limits.MaxMembers = 1 }, change(5, host(2)), "raise max_members"},
		{"entries", func(c *config.Config) { c.Limits.MaxEntries = 1 }, change(5, host(2)), "raise max_entries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, tt.limit)
			put(t, n, fdb.Configuration, 5, host(1))
			before := entries(t, n)
			_, err := ask[any](t, n, control.CommandFDBAdd, tt.add)
			wantError(t, err, control.CodeFailed, "no room for "+tt.add.Address.String(), tt.hint)
			e := wantError(t, give(t.Context(), t, n, control.CommandFDBFile, nil, nil, uploads(t, io.EOF, []control.FDBChange{tt.add})),
				control.CodeFailed, "no room", tt.hint)
			if e.Item == nil || *e.Item != 0 {
				t.Errorf("got item %v, want 0", e.Item)
			}
			if diff := cmp.Diff(before, entries(t, n)); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOperatorRemovesWhatOperatorsMade(t *testing.T) {
	n := newNode(t)
	put(t, n, fdb.Operator, 5, host(1), host(2))
	put(t, n, fdb.Configuration, 5, host(2), host(3))
	put(t, n, fdb.Data, 5, host(4))
	got, err := ask[control.FDBChanged](t, n, control.CommandFDBDel, change(5, host(1)))
	check(t, err)
	if len(got) != 1 || got[0] != (control.FDBChanged{Changed: true}) {
		t.Errorf("got %+v, want it changed", got)
	}
	got, err = ask[control.FDBChanged](t, n, control.CommandFDBDel, change(5, host(2)))
	check(t, err)
	if want := "192.0.2.2 is still a member of VNI 5, by configuration: take it out of vtep_membership"; got[0].Warning != want {
		t.Errorf("got %+v, want a warning: %s", got[0], want)
	}
	left := []string{"5 192.0.2.2 configuration", "5 192.0.2.3 configuration", "5 192.0.2.4 data"}
	for _, tt := range []struct {
		a          netip.Addr
		text, hint string
	}{
		{host(1), "192.0.2.1 is no member of VNI 5", ""},
		{host(3), "no operator made 192.0.2.3 a member of VNI 5: it is one by configuration", "vtep_membership"},
		{host(4), "no operator made 192.0.2.4 a member of VNI 5: it is one by data", "stays while it sends"},
	} {
		_, err := ask[any](t, n, control.CommandFDBDel, change(5, tt.a))
		wantError(t, err, control.CodeFailed, tt.text, tt.hint)
		// Who asked for nothing must not keep a peer from telling of it.
		if n.table.Withdrawn(clock(), 5, tt.a, 0) != (tt.a == host(1)) {
			t.Errorf("%s: got a withdrawal of what no operator made", tt.a)
		}
	}
	if diff := cmp.Diff(left, entries(t, n)); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// replaced uploads parts.
func replaced(t *testing.T, n *Node, end error, parts ...any) (out control.FDBReplaced, err error) {
	t.Helper()
	err = give(t.Context(), t, n, control.CommandFDBFile, nil, func(v any) error {
		out = decoded[control.FDBReplaced](t, v)
		return nil
	}, uploads(t, end, parts...))
	return out, err
}

type list []control.FDBChange

// The new ones are there before the old ones go, and nobody misses one that stays.
func TestFileReplacesWhatOperatorsMade(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.Limits.MaxMembers = 3; c.SvcnodeIP = host(100) })
	put(t, n, fdb.Operator, 5, host(1), host(2))
	put(t, n, fdb.Configuration, 5, host(1), host(3))
	feed := n.table.Subscribe(100, fdb.KindAdded|fdb.KindRemoved)
	defer feed.Close()
	got, err := replaced(t, n, io.EOF,
		list{change(7, host(100)), change(5, host(4)), change(5, host(1))}, list{}, list{change(5, host(4)), change(6, host(1))})
	check(t, err)
	want := control.FDBReplaced{
		Added: 3, Removed: 1, Kept: 1,
		Warnings: []string{"192.0.2.100 gets no copies: it is the address of this service node"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"5 192.0.2.1 operator", "5 192.0.2.1 configuration", "5 192.0.2.3 configuration", "5 192.0.2.4 operator",
		"6 192.0.2.1 operator", "7 192.0.2.100 operator",
	}, entries(t, n)); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	changes, _ := feed.Take(nil)
	var order []string
	for _, c := range changes {
		order = append(order, c.Kind.String())
	}
	if diff := cmp.Diff([]string{"added", "added", "added", "removed"}, order); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	// The room that successors had is gone again.
	_, err = ask[any](t, n, control.CommandFDBAdd, change(5, host(9)))
	wantError(t, err, control.CodeFailed, "no room", "max_members")

	if got, err := replaced(t, n, io.EOF); err != nil || got.Removed != 4 {
		t.Errorf("got %+v, %v for an empty file, want four removed", got, err)
	}
	if got := n.table.Stats().BySource[fdb.Operator]; got != 0 {
		t.Errorf("got %d entries of operators, want none", got)
	}
}

func TestFileIsTakenWholeOrNotAtAll(t *testing.T) {
	// Room for 4 members in each VNI, for 3 VNIs, and for 6 entries: host 1 and 2
	// stand in VNI 5 for good, host 3 is there by an operator, and one is learned.
	limits := func(c *config.Config) {
		c.Limits.MaxMembers, c.Limits.MaxVNIs, c.Limits.MaxEntries = 4, 3, 6
		c.Learning = config.LearnAny
	}
	tests := []struct {
		name  string
		end   error
		parts []any
		item  int // negative for none
		text  string
	}{
		{"broken off", errBroken, []any{list{change(5, host(3))}}, -1, ""},
		{"not what it should be", io.EOF, []any{list{change(5, host(3))}, "x"}, -1, "the upload is not a list"},
		{"member that it does not have", io.EOF, []any{[]object{{"vni": 5, "address": "192.0.2.3", "age": 1}}}, -1, "age"},
		{"null", io.EOF, []any{nil}, -1, "the upload is not a list"},
		{"a null among the members", io.EOF, []any{[]any{change(5, host(3)), nil}}, 1, "no vni is named"},
		{"no VNI", io.EOF, []any{[]object{{"address": "192.0.2.3"}}}, 0, "no vni is named"},
		{"no address", io.EOF, []any{[]object{{"vni": 5}}}, 0, "no address is named"},
		{"VNI", io.EOF, []any{list{change(5, host(3)), change(5, host(4))}, list{change(1<<24, host(5))}}, 2, "out of range"},
		{"address", io.EOF, []any{list{change(5, host(3))}, list{change(5, host(4)), change(6, netip.MustParseAddr("127.0.0.1"))}}, 2, "127.0.0.1 cannot be"},
		{"too many members", io.EOF, []any{list{change(5, host(9)), change(5, host(8)), change(5, host(7))}}, 0, "no room for 192.0.2.9 in VNI 5"},
		{"too many members beside one that stays", io.EOF, []any{list{change(5, host(9)), change(5, host(3)), change(5, host(4))}}, 0, "no room for 192.0.2.9 in VNI 5"},
		{"too many VNIs", io.EOF, []any{list{change(4, host(4)), change(8, host(4)), change(7, host(4))}}, 1, "no room for 192.0.2.4 in VNI 8"},
		{"too many entries", io.EOF, []any{list{change(5, host(4)), change(5, host(5)), change(6, host(4)), change(6, host(5)), change(6, host(6))}}, 4, "no room for 192.0.2.6 in VNI 6"},
		{"more than there could be", io.EOF, []any{list{change(5, host(1)), change(5, host(1)), change(5, host(1)), change(5, host(1)), change(5, host(1)), change(5, host(1)), change(5, host(1))}}, 6, "more than 6 entries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, limits)
			put(t, n, fdb.Configuration, 5, host(1), host(2))
			put(t, n, fdb.Operator, 5, host(3))
			put(t, n, fdb.Data, 9, host(1))
			before := entries(t, n)
			feed := n.table.Subscribe(100, fdb.KindAdded|fdb.KindRemoved)
			defer feed.Close()
			_, err := replaced(t, n, tt.end, tt.parts...)
			switch {
			case tt.end == errBroken:
				if !errors.Is(err, errBroken) {
					t.Errorf("got %v, want %v", err, errBroken)
				}
			default:
				var e *control.Error
				if !errors.As(err, &e) || !strings.Contains(e.Text, tt.text) {
					t.Fatalf("got %v, want …%s…", err, tt.text)
				}
				if tt.item < 0 != (e.Item == nil) || e.Item != nil && *e.Item != tt.item {
					t.Errorf("got item %v, want %d", e.Item, tt.item)
				}
			}
			if diff := cmp.Diff(before, entries(t, n)); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
			if changes, _ := feed.Take(nil); len(changes) > 0 {
				t.Errorf("got %d changes, want none", len(changes))
			}
			// As much fits as did before: one more member.
			_, err = ask[any](t, n, control.CommandFDBAdd, change(5, host(40)))
			check(t, err)
			_, err = ask[any](t, n, control.CommandFDBAdd, change(5, host(41)))
			wantError(t, err, control.CodeFailed, "no room", "max_members")
		})
	}
}

// Learned members give way to those of a file, as they do to any other.
func TestLearnedMembersGiveWayToAFile(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.Limits.MaxEntries = 2; c.Learning = config.LearnAny })
	put(t, n, fdb.Data, 9, host(1), host(2))
	got, err := replaced(t, n, io.EOF, list{change(5, host(3)), change(5, host(4))})
	check(t, err)
	if got.Added != 2 || n.table.Stats().BySource[fdb.Data] != 0 {
		t.Errorf("got %+v, %d learned, want the file alone", got, n.table.Stats().BySource[fdb.Data])
	}
}

// Room that goes between the look at the table and the change leaves things as
// they were, too.
func TestRoomThatIsTakenMeanwhile(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.Limits.MaxMembers = 3 })
	put(t, n, fdb.Operator, 5, host(1))
	put(t, n, fdb.Configuration, 5, host(2))
	before := entries(t, n)
	update := func(i byte, hold time.Duration) fdb.Update {
		return pair{5, host(i).As16()}.update(fdb.Operator, hold)
	}
	no := n.exchange([]fdb.Update{update(3, fdb.Static), update(4, fdb.Static), update(5, fdb.Static)}, []fdb.Update{update(1, 0)}, tableOptions(&n.cfg))
	if no == nil || no.item != 2 || no.why != fdb.RefusedMembers {
		t.Errorf("got %+v, want the third refused", no)
	}
	if diff := cmp.Diff(before, entries(t, n)); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	for _, i := range []byte{3, 4, 5} {
		if n.table.Withdrawn(clock(), 5, host(i), 0) {
			t.Errorf("%s: got a withdrawal of what was never there", host(i))
		}
	}
	if no := n.exchange([]fdb.Update{update(3, fdb.Static), update(4, fdb.Static)}, nil, tableOptions(&n.cfg)); no == nil || no.item != 1 {
		t.Errorf("got %+v, want the second refused: the room for successors is gone", no)
	}
}

// What operators change and what the configuration changes take turns.
func TestOperatorWaitsForAReload(t *testing.T) {
	n := newNode(t)
	c, err := n.Prepare(n.config())
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := give(ctx, t, n, control.CommandFDBAdd, change(5, host(1)), nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it to wait", err)
	}
	if err := give(ctx, t, n, control.CommandFDBFile, nil, nil, func() (json.RawMessage, error) { return nil, io.EOF }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it to wait", err)
	}
	c.Discard()
	_, err = ask[control.FDBChanged](t, n, control.CommandFDBAdd, change(5, host(1)))
	check(t, err)
}
