// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/netip"
	"strings"
	"testing"

	"vxsnd/internal/control"
)

// askedPeer is a peer that is being asked for its table.
func askedPeer() control.Peer {
	seconds := int64(62)
	return control.Peer{
		Address: netip.MustParseAddrPort("10.0.0.12:10001"), Kind: "other", AskedFor: &seconds, Refuses: true,
		Problem: "reset", LastDump: &control.Dump{Problem: "reset"},
	}
}

func TestShowTellsThatPeersAreAsked(t *testing.T) {
	for _, tt := range []struct {
		name string
		is   control.Status
		want string
	}{
		{"waiting", control.Status{Asking: true, Waiting: "a table"}, "no, waiting for a table"},
		{"ready without", control.Status{Asking: true, Ready: true}, "yes, without the table of a peer: they are asked on"},
		{"ready", control.Status{Ready: true}, "yes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b screen
			showDetail(&b, &tt.is)
			if want := "\n  Ready:              " + tt.want + "\n"; !strings.Contains(b.String(), want) {
				t.Errorf("got %s, want a line %s", b.String(), want)
			}
		})
	}
}

func TestPeersTellThatTheyAreAsked(t *testing.T) {
	var b screen
	peersText(&b, &[]control.Peer{askedPeer()})
	row := strings.Split(b.String(), "\n")[2]
	if !strings.Contains(row, "  refuses  ") || !strings.Contains(row, "  asked for 1m2s  ") {
		t.Errorf("got %s, want a peer that refuses and is asked for 1m2s", row)
	}
}
