// SPDX-License-Identifier: Apache-2.0

package e2e

// A node in a container that has the program and next to nothing else: /etc and
// /dev are empty.
//
//	node 192.0.2.254
//	      │
//	── switch ────
//	  │       │
//	  1       2      192.0.2.N

import (
	"testing"

	"vxsnd/internal/vxlan"
)

// Root who is not to become anybody goes on as root, with the log on standard
// error. A user by number needs no account.
func TestBareContainer(t *testing.T) {
	t.Parallel()
	const vni vxlan.VNI = 75
	tests := []struct {
		name   string
		config []string
		says   string // of whom it goes on as
	}{
		{name: "nobody named", says: "goes on as root with reduced capabilities: user vxsnd does not exist"},
		{name: "numbers", config: []string{becomes}, says: "goes on as an unprivileged user"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			vs := l.vteps(2)
			n := l.idle()
			n.logFlags = []string{}
			d := n.devLog()
			enter := append(d.enter, "sh", "-c", `mount --bind "$0" /etc && exec "$@"`, logDir(t))
			n.startAs(in(t, enter...), append(tt.config, "workers = 1", markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))...)
			if ls := lines(n.proc.Output()); ls[0]["msg"] != msgNoSyslog || len(with(ls, tt.says)) != 1 {
				t.Errorf("got %q, want a warning about syslog and a line %q", ls, tt.says)
			}
			wantMember(t, n, vs[0], vs[1], vni, true)
		})
	}
}
