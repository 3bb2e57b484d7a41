// SPDX-License-Identifier: Apache-2.0

package vxfld_test

import (
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// addr is netip.MustParseAddr.
func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// vf is the hex text of a protobuf varint field.
func vf(num protowire.Number, v uint64) string {
	return hex.EncodeToString(protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v))
}

// bf is the hex text of a length-delimited protobuf field that holds parts.
func bf(num protowire.Number, parts ...string) string {
	content := strings.Join(parts, "")
	b := protowire.AppendTag(nil, num, protowire.BytesType)
	return hex.EncodeToString(protowire.AppendVarint(b, uint64(len(content)/2))) + content
}

// ip is the hex text of a VniData's address, its octets all below 128.
func ip(octets string) string { return bf(1, bf(1, octets)) }

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		name, hex string
		want      error
		field     string
		offset    int
	}{
		{"empty", "", vxfld.ErrShort, "header", 0},
		{"version 0", "0001", vxfld.ErrVersion, "version", 0},
		{"version 4", "0401", vxfld.ErrVersion, "version", 0},
		{"type 0", "0300", vxfld.ErrType, "type", 1},
		{"type of the extension space", "0380", vxfld.ErrType, "type", 1},
		{"v1 without holdtime", "01010001", vxfld.ErrShort, "body", 2},
		{"v2 without response type", "020100010005", vxfld.ErrShort, "body", 2},
		{"v1 half a record", "01010001005a00000a", vxfld.ErrShort, "record", 6},
		{"v1 count past the end", "01010001005a0000000affff0a000001", vxfld.ErrShort, "record.addresses", 12},
		{"v1 VNI of 25 bits", "01010001005a010000000000", vxfld.ErrVNI, "record.vni", 6},
		{"field number 0", "03010001", vxfld.ErrProtobuf, "body", 2},
		{"wire type 7", "03010f", vxfld.ErrProtobuf, "body", 2},
		{"unknown field cut", "0301a20605aa", vxfld.ErrProtobuf, "body", 2},
		{"group without its end", "0301a306", vxfld.ErrProtobuf, "body", 2},
		{"end of a group without its start", "0301a406", vxfld.ErrProtobuf, "body", 2},
		{"malformed inside an unknown group", "0301a3060800ffa406", vxfld.ErrProtobuf, "body", 2},
		{"holdtime of 33 bits", "0301" + vf(2, 1<<32), vxfld.ErrProtobuf, "body.holdtime", 3},
		{"response of 33 bits", "0301" + vf(3, 1<<32), vxfld.ErrProtobuf, "body.response_type", 3},
		{"VNI of 25 bits", "0301" + bf(5, vf(1, 1<<24)), vxfld.ErrVNI, "vteps.vni", 5},
		{"VNI that 32 bits would cut to a good one", "0301" + bf(5, vf(1, 1<<32+1)), vxfld.ErrVNI, "vteps.vni", 5},
		{"VNI missing", "0301" + bf(5), vxfld.ErrMissing, "vteps.vni", 4},
		{"VNI with another wire type", "0301" + bf(5, bf(1)), vxfld.ErrMissing, "vteps.vni", 4},
		{"address missing", "0301" + bf(5, vf(1, 1), bf(2)), vxfld.ErrMissing, "vteps.data.ip_addr", 8},
		{"octet of 256", "0301" + bf(5, vf(1, 1), bf(2, bf(1, bf(1, "0a0000", "8002")))), vxfld.ErrAddress, "vteps.data.ip_addr", 15},
		{"octet of 256 unpacked", "0301" + bf(5, vf(1, 1), bf(2, bf(1, vf(1, 256)))), vxfld.ErrAddress, "vteps.data.ip_addr", 11},
		{"two addresses in one member", "0301" + bf(5, vf(1, 1), bf(2, ip("0a000001"), ip("0a000002"))), vxfld.ErrAddress, "vteps.data.ip_addr", 20},
		{"octet cut inside the packed field", "0301" + bf(5, vf(1, 1), bf(2, bf(1, bf(1, "0a000080")))), vxfld.ErrProtobuf, "vteps.data.ip_addr", 15},
		{"member longer than its VNI", "0301" + bf(5, vf(1, 1), "127f"), vxfld.ErrProtobuf, "vteps", 6},
		{"the second of two VNIs", "0301" + bf(5, vf(1, 1)) + bf(5, vf(1, 1<<24)), vxfld.ErrVNI, "vteps.vni", 9},
		{"SYNC holdtime of 33 bits", "0303" + bf(2, vf(1, 1), bf(2, ip("0a000001"), vf(2, 1<<32))), vxfld.ErrProtobuf, "vteps.data.holdtime", 17},
		{"SYNC owner of three octets", "0303" + bf(2, vf(1, 1), bf(2, ip("0a000001"), bf(124, bf(1, "0a0001")))), vxfld.ErrAddress, "vteps.data.owner", 8},
		{"SYNC owner of no octets", "0303" + bf(2, vf(1, 1), bf(2, ip("0a000001"), bf(124))), vxfld.ErrAddress, "vteps.data.owner", 8},
		{"SYNC VNI missing", "0303" + bf(2), vxfld.ErrMissing, "vteps.vni", 4},
		{"PROXY port of 17 bits", "0302" + vf(3, 1<<16), vxfld.ErrProtobuf, "body.srcport", 3},
		{"PROXY source of no octets", "0302" + bf(4), vxfld.ErrAddress, "body.srcip_n", 4},
		{"PROXY proxy of three octets", "0302" + bf(6, bf(1, "0a0001")), vxfld.ErrAddress, "body.proxy_ips", 4},
		{"PROXY packet of 7 bytes", "0302" + bf(7, "08000000000001"), vxfld.ErrPacket, "body.vxlan_pkt", 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := vxfld.Parse(unhex(t, tt.hex))
			if m != (vxfld.Message{}) {
				t.Errorf("got message %+v, want the zero value", m)
			}
			var pe *vxfld.ParseError
			if !errors.As(err, &pe) || !errors.Is(err, tt.want) {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			if pe.Field != tt.field || pe.Offset != tt.offset {
				t.Errorf("got %s at %d, want %s at %d", pe.Field, pe.Offset, tt.field, tt.offset)
			}
			if !strings.Contains(err.Error(), tt.field) {
				t.Errorf("got text %q, want the field %s in it", err, tt.field)
			}
		})
	}
}

func TestParseOddButGood(t *testing.T) {
	one := []vxfld.VNIMembers{{VNI: 77, Addrs: []netip.Addr{addr("10.0.0.7")}}}
	ext := vf(100, 1) + bf(101, "616263") + "a306" + vf(1, 1) + "a306a406" + "a406"
	tests := []struct {
		name, hex string
		want      vxfld.Body
	}{
		{"unknown fields and groups in each message",
			"0301" + ext + bf(5, ext, vf(1, 77), ext, bf(2, ext, bf(1, ext, bf(1, "0a000007"), ext), ext)) + ext,
			&vxfld.Refresh{Holdtime: 90, VNIs: one}},
		{"fixed-size unknown fields", "0301" + "a1060000000000000000" + "a50600000000", &vxfld.Refresh{Holdtime: 90}},
		{"data before vni", "0301" + bf(5, bf(2, ip("0a000007")), vf(1, 77)), &vxfld.Refresh{Holdtime: 90, VNIs: one}},
		{"the last of repeated scalars counts", "0301" + vf(2, 1) + bf(5, vf(1, 1), bf(2, ip("0a000007")), vf(1, 77)) + vf(2, 5),
			&vxfld.Refresh{Holdtime: 5, VNIs: one}},
		{"an address in two parts adds up", "0301" + bf(5, vf(1, 77), bf(2, bf(1, bf(1, "0a00")), bf(1, vf(1, 0), vf(1, 7)))),
			&vxfld.Refresh{Holdtime: 90, VNIs: one}},
		{"holdtime with another wire type is an unknown field", "0301" + bf(2, "00"), &vxfld.Refresh{Holdtime: 90}},
		{"SYNC fields in a REFRESH member are unknown there", "0301" + bf(5, vf(1, 77), bf(2, ip("0a000007"), vf(2, 1<<40))),
			&vxfld.Refresh{Holdtime: 90, VNIs: one}},
		{"one VNI in two records stays two", "0301" + bf(5, vf(1, 77), bf(2, ip("0a000007"))) + bf(5, vf(1, 77)),
			&vxfld.Refresh{Holdtime: 90, VNIs: append(one, vxfld.VNIMembers{VNI: 77})}},
		{"any non-zero originator flags", "01018000005a", &vxfld.Refresh{Originator: true, Holdtime: 90}},
		{"any non-zero originator", "0301" + vf(1, 1<<40), &vxfld.Refresh{Originator: true, Holdtime: 90}},
		{"an unknown response type is kept", "0301" + vf(3, 99), &vxfld.Refresh{Holdtime: 90, Response: 99}},
		{"SYNC entry without holdtime", "0303" + bf(2, vf(1, 77), bf(2, ip("0a000007"))),
			&vxfld.Sync{VNIs: []vxfld.VNIEntries{{VNI: 77, Entries: []vxfld.SyncEntry{{Addr: addr("10.0.0.7"), Holdtime: 90}}}}}},
		{"PROXY without anything", "0302", &vxfld.Proxy{TTL: 4}},
		{"PROXY that says what is the default", "0302" + vf(1, 4), &vxfld.Proxy{TTL: 4, TTLOnWire: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := vxfld.Parse(unhex(t, tt.hex))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, m.Body, equateAddrs); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, roundTrip(t, m).Body, equateAddrs); diff != "" {
				t.Errorf("encoded and decoded again (-want +got):\n%s", diff)
			}
		})
	}
}

// The records of a message are pieces of one array; who appends to one must
// not reach the next.
func TestRecordsDoNotOverlap(t *testing.T) {
	m, err := vxfld.Parse(unhex(t, "01010001005a"+"0000000100010a000001"+"0000000200010a000002"))
	if err != nil {
		t.Fatal(err)
	}
	r := m.Body.(*vxfld.Refresh)
	_ = append(r.VNIs[0].Addrs, addr("192.0.2.1"))
	if got, want := r.VNIs[1].Addrs[0], addr("10.0.0.2"); got != want {
		t.Errorf("got %s in the second record, want %s", got, want)
	}
}

// Only an answer that lacks something has the field, and readers that do not know
// it see the same answer.
func TestPartialAnswer(t *testing.T) {
	whole := "0301" + "0800" + "105a" + "1800" + "2000"
	tests := []struct {
		name, hex string
		partial   bool
	}{
		{"partial", whole + "c00701", true},
		{"whole", whole, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := &vxfld.Refresh{Holdtime: 90, Partial: tt.partial}
			b, err := vxfld.Message{Version: vxfld.V3, Body: want}.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(b); got != tt.hex {
				t.Errorf("got %s, want %s", got, tt.hex)
			}
			m, err := vxfld.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(vxfld.Body(want), m.Body, equateAddrs); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	members := func(vni vxlan.VNI, as ...netip.Addr) []vxfld.VNIMembers {
		return []vxfld.VNIMembers{{VNI: vni, Addrs: as}}
	}
	tests := []struct {
		name    string
		version vxfld.Version
		body    vxfld.Body
		want    error
	}{
		{"version 0", 0, &vxfld.Refresh{}, vxfld.ErrVersion},
		{"version 4", 4, &vxfld.Sync{}, vxfld.ErrVersion},
		{"v1 question", vxfld.V1, &vxfld.Refresh{Response: vxfld.ResponseAll}, vxfld.ErrRange},
		{"v1 identifier", vxfld.V1, &vxfld.Refresh{Identifier: 1}, vxfld.ErrRange},
		{"v2 partial", vxfld.V2, &vxfld.Refresh{Partial: true}, vxfld.ErrRange},
		{"v2 holdtime of 17 bits", vxfld.V2, &vxfld.Refresh{Holdtime: 65536}, vxfld.ErrRange},
		{"v2 response of 17 bits", vxfld.V2, &vxfld.Refresh{Response: 65536}, vxfld.ErrRange},
		{"v2 IPv6", vxfld.V2, &vxfld.Refresh{VNIs: members(1, addr("2001:db8::1"))}, vxfld.ErrRange},
		{"v3 IPv6", vxfld.V3, &vxfld.Refresh{VNIs: members(1, addr("2001:db8::1"))}, vxfld.ErrRange},
		{"v3 IPv4 in IPv6", vxfld.V3, &vxfld.Refresh{VNIs: members(1, addr("::ffff:10.0.0.1"))}, vxfld.ErrRange},
		{"v3 no address", vxfld.V3, &vxfld.Refresh{VNIs: members(1, netip.Addr{})}, vxfld.ErrRange},
		{"v1 VNI of 25 bits", vxfld.V1, &vxfld.Refresh{VNIs: members(1 << 24)}, vxfld.ErrVNI},
		{"v2 more than 16 bits of addresses", vxfld.V2, &vxfld.Refresh{VNIs: members(1, make([]netip.Addr, 65536)...)}, vxfld.ErrRange},
		{"SYNC VNI of 25 bits", vxfld.V3, &vxfld.Sync{VNIs: []vxfld.VNIEntries{{VNI: 1 << 24}}}, vxfld.ErrVNI},
		{"SYNC IPv6", vxfld.V3, &vxfld.Sync{VNIs: []vxfld.VNIEntries{{Entries: []vxfld.SyncEntry{{Addr: addr("::1")}}}}}, vxfld.ErrRange},
		{"SYNC owner of IPv6", vxfld.V3, &vxfld.Sync{VNIs: []vxfld.VNIEntries{{Entries: []vxfld.SyncEntry{{Addr: addr("10.0.0.1"), Owner: addr("::1")}}}}}, vxfld.ErrRange},
		{"PROXY from IPv6", vxfld.V3, &vxfld.Proxy{SrcIP: addr("::1")}, vxfld.ErrRange},
		{"PROXY through IPv6", vxfld.V3, &vxfld.Proxy{ProxyIPs: []netip.Addr{addr("::1")}}, vxfld.ErrRange},
		{"PROXY short packet", vxfld.V3, &vxfld.Proxy{Packet: make([]byte, 7)}, vxfld.ErrPacket},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := vxfld.Message{Version: tt.version, Body: tt.body}.Append([]byte("x"))
			if !errors.Is(err, tt.want) || got != nil {
				t.Errorf("got %x, %v, want no bytes and %v", got, err, tt.want)
			}
		})
	}
}

func TestHoldtimes(t *testing.T) {
	tests := []struct {
		name string
		d    time.Duration
		wire uint32
		back time.Duration
	}{
		{"passed", -time.Second, 0, 0},
		{"none", 0, 0, 0},
		{"a moment left is not a withdrawal", 1, 1, time.Second},
		{"rounded up", 1500 * time.Millisecond, 2, 2 * time.Second},
		{"whole", 90 * time.Second, 90, 90 * time.Second},
		{"longest", 65534 * time.Second, 65534, 65534 * time.Second},
		{"does not become static", 65535 * time.Second, 65534, 65534 * time.Second},
		{"years", 1 << 62, 65534, 65534 * time.Second},
		{"static", math.MaxInt64, 65535, math.MaxInt64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := vxfld.HoldtimeOf(tt.d)
			if got != tt.wire {
				t.Errorf("got %d, want %d", got, tt.wire)
			}
			if back := vxfld.HoldtimeDuration(got); back != tt.back {
				t.Errorf("got %s back, want %s", back, tt.back)
			}
		})
	}
	if got, want := vxfld.HoldtimeDuration(math.MaxUint32), math.MaxUint32*time.Second; got != want {
		t.Errorf("got %s for the longest of version 3, want %s", got, want)
	}
}

// A million entries are written record by record, and nobody holds them all.
func TestSyncStream(t *testing.T) {
	want := &vxfld.Sync{Identifier: 3, Response: vxfld.ResponseAll, VNIs: []vxfld.VNIEntries{
		{VNI: 1, Entries: []vxfld.SyncEntry{{Addr: addr("10.0.0.1"), Holdtime: 65535}}},
		{VNI: 1, Entries: []vxfld.SyncEntry{{Addr: addr("10.200.0.2"), Holdtime: 7, Identifier: math.MaxUint64}}},
		{VNI: vxlan.MaxVNI},
	}}
	head := *want
	head.VNIs = nil
	stream, err := vxfld.Message{Version: vxfld.V3, Body: &head}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range want.VNIs {
		part, err := vxfld.AppendSyncRecord(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, part...)
	}
	m, err := vxfld.Parse(stream)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vxfld.Body(want), m.Body, equateAddrs); diff != "" {
		t.Errorf("streamed (-want +got):\n%s", diff)
	}
}

func TestStrings(t *testing.T) {
	tests := []struct{ name, got, want string }{
		{"refresh", vxfld.TypeRefresh.String(), "REFRESH"},
		{"proxy", vxfld.TypeProxy.String(), "PROXY"},
		{"sync", vxfld.TypeSync.String(), "SYNC"},
		{"other type", vxfld.Type(9).String(), "type 9"},
		{"none", vxfld.ResponseNone.String(), "none"},
		{"requested", vxfld.ResponseRequested.String(), "requested"},
		{"all", vxfld.ResponseAll.String(), "all"},
		{"other response", vxfld.Response(9).String(), "response 9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("got %q, want %q", tt.got, tt.want)
			}
		})
	}
}
