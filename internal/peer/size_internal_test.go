// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"io"
	"net/netip"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"vxsnd/internal/fdb"
)

// Who sends what nobody asked for may say less than who answers.
func TestSizeOfAnUpdate(t *testing.T) {
	most := defaultLimits.receive.size
	if most >= defaultLimits.answer.size {
		t.Errorf("got updates of %d bytes, want less than the %d of an answer", most, defaultLimits.answer.size)
	}
	msg := protowire.AppendTag([]byte{3, 3}, 200, protowire.BytesType)   // an unknown field
	msg = protowire.AppendVarint(msg, uint64(most-len(msg)-len("size"))) // which takes 4 bytes
	msg = append(msg, make([]byte, most-len(msg))...)
	for _, tt := range []struct {
		name string
		msg  []byte
		want Verdict
	}{
		{"as large as may be", msg, VerdictUpdate},
		{"too large", append(msg, 0), VerdictLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := New(Options{Table: fdb.New(fdb.Options{}), Now: func() fdb.Time { return 1 }})
			if got, err := g.Converse(tt.msg, netip.MustParseAddr("127.0.0.2"), io.Discard); got != tt.want {
				t.Errorf("got %v (%v), want %v", got, err, tt.want)
			}
		})
	}
}
