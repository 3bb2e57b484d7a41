// SPDX-License-Identifier: Apache-2.0

package vxfld_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxsnd/internal/vxfld"
)

// A vector is one message of the deployed suite, made by it or captured from
// it.
type vector struct {
	Name      string
	Transport string
	Hex       string
	Want      string
	Decoded   any
	Relayed   string `json:"relayed_hex"`
}

// vectors reads testdata/vxfld.json.
func vectors(tb testing.TB) []vector {
	tb.Helper()
	b, err := os.ReadFile("testdata/vxfld.json")
	if err != nil {
		tb.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		tb.Fatal(err)
	}
	if len(vs) < 60 {
		tb.Fatalf("got %d vectors, want them all", len(vs))
	}
	return vs
}

// unhex decodes the hex text of a vector.
func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// decoded returns m as the vectors' "decoded" shows it, after a way through
// JSON so that types compare.
func decoded(tb testing.TB, m vxfld.Message) any {
	tb.Helper()
	d := map[string]any{"version": m.Version, "type": m.Body.Type().String()}
	switch b := m.Body.(type) {
	case *vxfld.Refresh:
		d["originator"] = b.Originator
		d["holdtime"] = b.Holdtime
		d["response_type"] = b.Response
		d["identifier"] = b.Identifier
		vteps := map[string][]string{}
		for _, r := range b.VNIs {
			k := r.VNI.String()
			if vteps[k] == nil {
				vteps[k] = []string{}
			}
			for _, a := range r.Addrs {
				vteps[k] = append(vteps[k], a.String())
			}
		}
		d["vni_vteps"] = vteps
	case *vxfld.Sync:
		d["response_type"] = b.Response
		d["identifier"] = b.Identifier
		vteps := map[string][]any{}
		for _, r := range b.VNIs {
			for _, e := range r.Entries {
				vteps[r.VNI.String()] = append(vteps[r.VNI.String()], map[string]any{
					"ip": e.Addr.String(), "holdtime": e.Holdtime, "identifier": e.Identifier,
				})
			}
		}
		d["vni_vteps"] = vteps
	case *vxfld.Proxy:
		d["ttl"], d["ttl_on_wire"] = b.TTL, b.TTLOnWire
		d["proxy_hops"], d["area"] = b.Hops, b.Area
		d["srcport"], d["srcip"] = b.SrcPort, b.SrcIP.String()
		ips := []string{}
		for _, a := range b.ProxyIPs {
			ips = append(ips, a.String())
		}
		d["proxy_ips"] = ips
		d["vxlan_pkt"] = hex.EncodeToString(b.Packet)
	}
	text, err := json.Marshal(d)
	if err != nil {
		tb.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		tb.Fatal(err)
	}
	return out
}

// roundTrip encodes m and decodes the result.
func roundTrip(tb testing.TB, m vxfld.Message) vxfld.Message {
	tb.Helper()
	b, err := m.Append(nil)
	if err != nil {
		tb.Fatalf("append: %v", err)
	}
	back, err := vxfld.Parse(b)
	if err != nil {
		tb.Fatalf("parse what was appended: %v\n%x", err, b)
	}
	return back
}

// equateAddrs compares addresses by value.
var equateAddrs = cmpopts.EquateComparable(netip.Addr{})

func TestVectors(t *testing.T) {
	for _, tt := range vectors(t) {
		t.Run(tt.Name, func(t *testing.T) {
			m, err := vxfld.Parse(unhex(t, tt.Hex))
			switch tt.Want {
			case "refuse":
				var pe *vxfld.ParseError
				if !errors.As(err, &pe) {
					t.Fatalf("got error %v, want a *ParseError", err)
				}
				if m != (vxfld.Message{}) {
					t.Fatalf("got message %+v with an error, want the zero value", m)
				}
				return
			case "accept", "partial":
			default:
				t.Fatalf("vector wants %q, which this test does not know", tt.Want)
			}
			if err != nil {
				t.Fatalf("parse: %v", err)
			}
			if diff := cmp.Diff(tt.Decoded, decoded(t, m)); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			back := roundTrip(t, m)
			if diff := cmp.Diff(m, back, equateAddrs); diff != "" {
				t.Errorf("encoded and decoded again (-want +got):\n%s", diff)
			}
		})
	}
}

// What a deployed node relays is the message with originator cleared and
// without a question. Relayed as version 3 it says the same.
func TestVectorsRelayed(t *testing.T) {
	n := 0
	for _, tt := range vectors(t) {
		if tt.Relayed == "" {
			continue
		}
		n++
		t.Run(tt.Name, func(t *testing.T) {
			m, err := vxfld.Parse(unhex(t, tt.Hex))
			if err != nil {
				t.Fatal(err)
			}
			relayed, err := vxfld.Parse(unhex(t, tt.Relayed))
			if err != nil {
				t.Fatalf("parse relayed: %v", err)
			}
			r, ok := m.Body.(*vxfld.Refresh)
			if !ok || !r.Originator {
				t.Fatalf("got %T that was relayed, want a Refresh of an originator", m.Body)
			}
			r.Originator, r.Response = false, vxfld.ResponseNone
			if diff := cmp.Diff(relayed, m, equateAddrs); diff != "" {
				t.Errorf("relayed (-want +got):\n%s", diff)
			}
			m.Version = vxfld.V3
			back := roundTrip(t, m)
			if diff := cmp.Diff(relayed.Body, back.Body, equateAddrs); diff != "" {
				t.Errorf("relayed as version 3 (-want +got):\n%s", diff)
			}
		})
	}
	if n == 0 {
		t.Error("got no relayed vectors, want some")
	}
}

// Deployed senders of answers write each field, also where it is the default,
// and the octets packed: ours are the same bytes.
func TestAppendWritesTheBytesOfDeployedNodes(t *testing.T) {
	for _, tt := range vectors(t) {
		switch tt.Name {
		case "v1_refresh_1vni_3vtep_hold0", "captured_v1_reply", "captured_snd_reply_v2", "v2_refresh_100vteps",
			"v3_refresh_snd_reply", "captured_snd_reply_requested", "proxy_second_hop", "captured_proxy_first_hop",
			"proxy_with_proxy_ips", "sync_request_all", "sync_request_and_data", "sync_data_200", "captured_sync_learned",
			"captured_sync_static_add", "captured_sync_reply_full":
		default:
			continue
		}
		t.Run(tt.Name, func(t *testing.T) {
			m, err := vxfld.Parse(unhex(t, tt.Hex))
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if want := tt.Hex; hex.EncodeToString(got) != want {
				t.Errorf("got %x, want %s", got, want)
			}
		})
	}
}

// Every prefix of a good message is refused or is a good message itself; none
// gives a message besides an error.
func TestTruncation(t *testing.T) {
	for _, tt := range vectors(t) {
		b := unhex(t, tt.Hex)
		for n := range len(b) {
			m, err := vxfld.Parse(b[:n:n])
			if err != nil && m != (vxfld.Message{}) {
				t.Fatalf("%s cut to %s bytes: got a message with error %v", tt.Name, strconv.Itoa(n), err)
			}
		}
	}
}
