// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

// What a disturbed listing lacks is not taken for gone.
func TestDevicesOfDisturbedListings(t *testing.T) {
	tests := []struct {
		name     string
		known    []int
		exist    []int
		lists    [][]int // what each listing shows, after which it shows all
		cannot   bool    // devices cannot be looked up
		want     []int
		disturbs bool
		listings int
	}{
		{"undisturbed", nil, []int{1, 2}, nil, false, []int{1, 2}, false, 1},
		{"first, once", nil, []int{1, 2, 3}, [][]int{{1, 3}}, false, []int{1, 2, 3}, false, 2},
		{"first, always", nil, []int{1, 2, 3}, [][]int{{1}, {2}, {3}, {1, 2}, {2, 3}}, false, []int{1, 2, 3}, true, 5},
		{"first, one goes", nil, []int{2, 3}, [][]int{{1}, {2}, {3}, {3}, {3}}, false, []int{2, 3}, true, 5},
		{"later", []int{1, 2, 3}, []int{1, 3, 4}, [][]int{{4}}, false, []int{1, 3, 4}, true, 1},
		{"later, undisturbed", []int{1, 2, 3}, []int{1, 3, 4}, nil, false, []int{1, 3, 4}, false, 1},
		{"nothing can be looked up", []int{1, 2}, []int{2}, [][]int{{2}}, true, []int{1, 2}, true, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			known := make(map[int]link)
			for _, i := range tt.known {
				known[i] = link{index: i, name: "old"}
			}
			listings := 0
			got, err := gatherLinks(known, func(take func(link)) error {
				shown, err := tt.exist, error(nil)
				if listings < len(tt.lists) {
					shown, err = tt.lists[listings], netlink.ErrDumpInterrupted
				}
				listings++
				for _, i := range shown {
					take(link{index: i})
				}
				return err
			}, func(i int) (link, error) {
				switch {
				case tt.cannot:
					return link{}, unix.ENOBUFS
				case !slices.Contains(tt.exist, i):
					return link{}, unix.ENODEV
				}
				return link{index: i}, nil
			})
			if interrupted(err) != tt.disturbs || err != nil && !interrupted(err) {
				t.Errorf("got error %v, want a disturbed listing: %v", err, tt.disturbs)
			}
			var indexes []int
			for i := range got {
				indexes = append(indexes, i)
			}
			slices.Sort(indexes)
			if diff := cmp.Diff(tt.want, indexes); diff != "" || listings != tt.listings {
				t.Errorf("got %d listings, want %d (-want +got):\n%s", listings, tt.listings, diff)
			}
		})
	}
	wrong := errors.New("out of order")
	if _, err := gatherLinks(nil, func(func(link)) error { return wrong }, nil); !errors.Is(err, wrong) {
		t.Errorf("got error %v, want %v", err, wrong)
	}
}

// Addresses are told without a listing, however many devices come and go.
func TestFollowingListsNothing(t *testing.T) {
	n, err := netlab.Test(t).Namespace("machine")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(err)
	for _, neighbours := range []bool{true, false} {
		t.Run(fmt.Sprintf("neighbours=%v", neighbours), func(t *testing.T) {
			var u *Underlay
			check(n.Do(func() (err error) {
				u, err = open("", neighbours, nil)
				return err
			}))
			defer u.Close()
			told := make(chan []netip.Addr, 1000)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- u.Run(ctx, func(as []netip.Addr) { told <- as }) }()
			defer func() {
				cancel()
				check(<-done)
			}()
			want := func(a netip.Prefix, there bool) {
				t.Helper()
				deadline := time.After(20 * time.Second)
				for {
					select {
					case as := <-told:
						if slices.Contains(as, a.Addr()) == there {
							return
						}
					case <-deadline:
						t.Fatalf("%v: got no news, want it there: %v", a, there)
					}
				}
			}
			asked := func() uint32 {
				u.conn.mu.Lock()
				defer u.conn.mu.Unlock()
				return u.conn.seq
			}
			a := netip.MustParsePrefix("192.0.2.1/32")
			want(a, false)
			before := asked()
			for i := range 20 {
				check(n.AddVXLAN(fmt.Sprint("vx", i), netlab.VXLAN{VNI: uint32(i), Local: a.Addr()}))
			}
			check(n.AddAddr("lo", a))
			want(a, true)
			for i := range 20 {
				check(n.DeleteLink(fmt.Sprint("vx", i)))
			}
			check(n.DeleteAddr("lo", a))
			want(a, false)
			if got := asked(); got != before {
				t.Errorf("got %d requests to the kernel, want none", got-before)
			}
		})
	}
}
