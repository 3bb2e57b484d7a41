// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"encoding/json"
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

// A number has a text that is one, a word has not.
type (
	number uint32
	word   uint8
)

func (number) String() string { return "7" }
func (word) String() string   { return "registration" }

// jsonLine logs and returns the one line that comes of it.
func jsonLine(t *testing.T, fields logrus.Fields, message string) map[string]any {
	t.Helper()
	var out buffer
	log := open(t, logging.Options{JSON: true, Stdout: &out})
	log.WithFields(fields).Warn(message)
	closeLog(t, log)
	text := out.String()
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		t.Errorf("got %q, want one line", text)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("got %q, want JSON: %v", text, err)
	}
	return m
}

func TestJSONHasWhatTextHas(t *testing.T) {
	addr := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4789}
	got := jsonLine(t, logrus.Fields{
		"vni": number(7), "source": word(1), "interval": 90 * time.Second, "local": addr, "count": 3,
		"error": errors.New("no <route>"), "time": "a field", "none": (*net.UDPAddr)(nil),
	}, "copy not sent")
	if s, _ := got["time"].(string); len(s) == 0 {
		t.Errorf("got time %v, want a text", got["time"])
	} else if _, err := time.Parse("2006-01-02T15:04:05.000Z07:00", s); err != nil {
		t.Errorf("got time %q: %v", s, err)
	}
	delete(got, "time")
	want := map[string]any{
		"level": "warning", "msg": "copy not sent", "vni": 7.0, "source": "registration", "interval": "1m30s",
		"local": "192.0.2.1:4789", "count": 3.0, "error": "no <route>", "fields.time": "a field", "none": "<nil>",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEveryLineIsJSON(t *testing.T) {
	tests := []struct {
		name  string
		value any
		want  any
	}{
		{"two lines", "a\nb\r\n", "a\nb\r\n"},
		{"quotes", `"}{",\`, `"}{",\`},
		{"control characters", "\x00\x1b[31m\x7f", "\x00\x1b[31m\x7f"},
		{"separators of JavaScript", "\u2028\u2029", "\u2028\u2029"},
		{"no text", "a\xff\xfeb", "a\ufffd\ufffdb"},
		{"long", strings.Repeat("é", 8000), nil},
		{"long and all escapes", strings.Repeat("\x01", 100_000), nil},
		{"no number", math.NaN(), "NaN"},
		{"no value of JSON", make(chan int), nil},
		{"a map of no JSON", map[any]any{1: 2}, "map[1:2]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := jsonLine(t, logrus.Fields{"src": tt.value}, "words")
			if tt.want != nil && got["src"] != tt.want {
				t.Errorf("got %q, want %q", got["src"], tt.want)
			}
			text, ok := tt.value.(string)
			if !ok {
				return
			}
			got = jsonLine(t, nil, text)
			if tt.want != nil && got["msg"] != tt.want {
				t.Errorf("got message %q, want %q", got["msg"], tt.want)
			}
		})
	}
}

func TestLongLinesAreCut(t *testing.T) {
	for _, form := range []bool{false, true} {
		var out buffer
		log := open(t, logging.Options{JSON: form, Stdout: &out})
		log.WithFields(logrus.Fields{"vni": 100, "src": strings.Repeat("x", 100_000)}).Info(strings.Repeat("é", 100_000))
		closeLog(t, log)
		got := out.String()
		if len(got) > 8192 || strings.Count(got, "...") != 2 || strings.Contains(got, "\ufffd") || !strings.Contains(got, "vni") {
			t.Errorf("JSON %t: got %d bytes with %d marks, want 8192 at most with 2: %.300q", form, len(got), strings.Count(got, "..."), got)
		}
	}
}

func TestReportOfLostLinesIsJSON(t *testing.T) {
	g := newGate()
	g.fail = 1
	close(g.open)
	log := open(t, logging.Options{JSON: true, Stdout: g})
	log.Info("lost")
	log.Info("kept")
	closeLog(t, log)
	if got, want := g.text.String(), `"count":1,"level":"warning","msg":"log lines lost"`; !strings.Contains(got, want) {
		t.Errorf("got %q, want it to contain %s", got, want)
	}
	if got := log.Lost(); got != 1 {
		t.Errorf("got %d lines lost, want 1", got)
	}
}
