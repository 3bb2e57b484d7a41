// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

// Whoever has no capability reads all and changes nothing.
func TestWithoutCapabilities(t *testing.T) {
	r := newFDBRig(t)
	a := r.device(t, "a", netlab.VXLAN{VNI: 1, Local: addr("192.0.2.1"), Remote: addr("192.0.2.2")})
	check(t, r.AddExternalVXLAN("ext", netlab.ExternalVXLAN{Filter: true, Port: 4790}))
	check(t, r.AddVNIs("ext", 10, 20, netip.Addr{}))
	check(t, r.Do(func() error {
		return unprivileged(func() error {
			d, err := underlay.OpenDevices(discard)
			if err != nil {
				return err
			}
			defer d.Close()
			if got, want := show(must(d.List())(t)), []string{"a 1>192.0.2.2 local 192.0.2.1", "ext 10-20 port 4790 external"}; !slices.Equal(got, want) {
				t.Errorf("got devices %q, want %q", got, want)
			}
			f, err := underlay.OpenFDB()
			if err != nil {
				return err
			}
			defer f.Close()
			if got := entries(must(f.Read(0))(t)); !slices.Equal(got, []string{"192.0.2.2"}) {
				t.Errorf("got entries %q, want 192.0.2.2", got)
			}
			got := f.Apply(add(a, "192.0.2.3", "192.0.2.2"))
			if len(got) != 2 || !errors.Is(got[0], unix.EPERM) || !errors.Is(got[1], fs.ErrExist) {
				t.Errorf("got %v, want %v", got, unix.EPERM)
			}
			return nil
		})
	}))
}

// unprivileged runs f on the calling thread without effective capabilities.
func unprivileged(f func() error) (err error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all [2]unix.CapUserData
	if err := unix.Capget(&hdr, &all[0]); err != nil {
		return err
	}
	none := all
	none[0].Effective, none[1].Effective = 0, 0
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Capset(&hdr, &all[0])) }()
	return f()
}

func TestNames(t *testing.T) {
	r := newFDBRig(t)
	other := must(r.lab.Namespace("other"))(t)
	id := func(n *netlab.Namespace) (s string) {
		check(t, n.Do(func() (err error) {
			s, err = underlay.NamespaceID()
			return err
		}))
		return s
	}
	if a, b, c := id(r.Namespace), id(r.Namespace), id(other); a != b || a == c {
		t.Errorf("got %s and %s, and %s for another", a, b, c)
	}
	if a, b := must(underlay.BootID())(t), must(underlay.BootID())(t); a != b || len(a) != 36 {
		t.Errorf("got %q and %q, want a UUID twice", a, b)
	}
}
