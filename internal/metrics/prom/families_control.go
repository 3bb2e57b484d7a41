// SPDX-License-Identifier: Apache-2.0

package prom

func registrationFamilies() []family {
	return []family{
		{"control_messages_total", "Control messages received over UDP, by what became of them.", counter, []string{"version", "verdict"},
			func(s *scrape, out emit) {
				for m, n := range s.Registration.Messages {
					out(float64(n), m.Version, m.Verdict)
				}
			}},
		count("control_read_errors_total", "Failed reads of the registration sockets.", func(s *scrape) uint64 { return s.Registration.ReadErrors }),
		counts("registration_members_total", "Members of control messages, by what the table did with them.", "result",
			func(s *scrape) map[string]uint64 { return s.Registration.Entries }),
		counts("registration_refused_members_total", "Members of control messages that the table did not take in.", "reason",
			func(s *scrape) map[string]uint64 { return s.Registration.Refused }),
		counts("registration_left_out_addresses_total", "Addresses of control messages that cannot be a VTEP's.", "reason",
			func(s *scrape) map[string]uint64 { return s.Registration.LeftOut }),
		count("questions_total", "Control messages that ask for an answer.", func(s *scrape) uint64 { return s.Registration.Questions }),
		count("merged_questions_total", "Questions that were added to an answer in progress.", func(s *scrape) uint64 { return s.Registration.Merged }),
		count("dropped_questions_total", "Questions that there was no room for.", func(s *scrape) uint64 { return s.Registration.Dropped }),
		count("withheld_answers_total", "Messages of version 1 of peers, which are not answered.", func(s *scrape) uint64 { return s.Registration.Withheld }),
		count("unanswered_vnis_total", "VNIs of questions that got no answer.", func(s *scrape) uint64 { return s.Registration.UnansweredVNIs }),
		count("answers_total", "Answers that were sent to their end.", func(s *scrape) uint64 { return s.Registration.Answers }),
		count("empty_answers_total", "Answers without a VNI.", func(s *scrape) uint64 { return s.Registration.Empty }),
		count("abandoned_answers_total", "Answers given up since nothing more could be sent.", func(s *scrape) uint64 { return s.Registration.Abandoned }),
		count("cut_answers_total", "Answers to strangers that were cut short, since too many of them ask.", func(s *scrape) uint64 { return s.Registration.Cut }),
		count("answer_messages_total", "Messages that answers were made of.", func(s *scrape) uint64 { return s.Registration.AnswerMessages }),
		count("answer_bytes_total", "UDP payload that answers were made of.", func(s *scrape) uint64 { return s.Registration.AnswerBytes }),
		count("answer_write_errors_total", "Messages of answers that could not be sent.", func(s *scrape) uint64 { return s.Registration.WriteErrors }),
	}
}

func peeringFamilies() []family {
	return []family{
		counts("peering_connections_total", "TCP connections from elsewhere, by what became of them.", "verdict",
			func(s *scrape) map[string]uint64 { return s.Peering.Connections }),
		count("peering_accept_errors_total", "TCP connections that the system did not hand over.", func(s *scrape) uint64 { return s.Peering.AcceptErrors }),
		count("peering_answers_total", "Answers to peers over TCP that were sent whole.", func(s *scrape) uint64 { return s.Peering.Answers }),
		count("peering_answer_entries_total", "Entries in answers to peers.", func(s *scrape) uint64 { return s.Peering.AnswerEntries }),
		counts("peering_members_total", "Members that peers told of over TCP, by what the table did with them.", "result",
			func(s *scrape) map[string]uint64 { return s.Peering.Entries }),
		counts("peering_refused_members_total", "Members that peers told of over TCP and that the table did not take in.", "reason",
			func(s *scrape) map[string]uint64 { return s.Peering.Refused }),
	}
}

func peerFamilies() []family {
	count := func(name, help string, value func(p *Peer) uint64) family {
		return family{name, help, counter, []string{"peer"}, func(s *scrape, out emit) {
			for i := range s.Peers {
				out(float64(value(&s.Peers[i])), s.Peers[i].Name)
			}
		}}
	}
	level := func(name, help string, value func(p *Peer) (v float64, ok bool)) family {
		return family{name, help, gauge, []string{"peer"}, func(s *scrape, out emit) {
			for i := range s.Peers {
				if v, ok := value(&s.Peers[i]); ok {
					out(v, s.Peers[i].Name)
				}
			}
		}}
	}
	return []family{
		level("peer_up", "Whether the peer can be reached and its last answer could be used.", func(p *Peer) (float64, bool) { return truth(p.Up), true }),
		level("peer_last_heard_age_seconds", "How long ago the peer sent something over TCP; absent if it never did.",
			func(p *Peer) (float64, bool) { return p.Heard.Seconds(), p.Heard >= 0 }),
		level("peer_queued_messages", "Relayed messages that wait to be sent.", func(p *Peer) (float64, bool) { return float64(p.Queue), true }),
		level("peer_waiting_members", "Members that the peer is still to be told of over TCP.", func(p *Peer) (float64, bool) { return float64(p.Waiting), true }),
		count("peer_relayed_messages_total", "Messages that were relayed.", func(p *Peer) uint64 { return p.Relayed }),
		count("peer_dropped_messages_total", "Messages to relay that found the queue full.", func(p *Peer) uint64 { return p.Dropped }),
		count("peer_relay_errors_total", "Relayed messages that the kernel did not take or that came back.", func(p *Peer) uint64 { return p.RelayErrors }),
		count("peer_updated_members_total", "Members that the peer was told of over TCP.", func(p *Peer) uint64 { return p.Updates }),
		count("peer_update_connections_total", "TCP connections that told the peer of members.", func(p *Peer) uint64 { return p.UpdateConnections }),
		count("peer_update_errors_total", "TCP connections for that which failed.", func(p *Peer) uint64 { return p.UpdateErrors }),
		count("peer_dumps_total", "Attempts to take the peer's table.", func(p *Peer) uint64 { return p.Dumps }),
		count("peer_dump_errors_total", "Attempts to take the peer's table that failed.", func(p *Peer) uint64 { return p.DumpErrors }),
		level("peer_dump_duration_seconds", "How long the last attempt to take the peer's table took; absent if there was none.",
			func(p *Peer) (float64, bool) { return p.DumpTime.Seconds(), p.Dumps > 0 }),
		level("peer_dump_entries", "Entries that the last attempt to take the peer's table brought; absent if there was none.",
			func(p *Peer) (float64, bool) { return float64(p.DumpEntries), p.Dumps > 0 }),
		level("peer_differing_entries", "Entries of the peer that were lacking here at the last comparison.",
			func(p *Peer) (float64, bool) { return float64(p.Differ), true }),
	}
}

func anycastFamilies() []family {
	flag := func(name, help string, value func(a *Anycast) bool) family {
		return family{name, help, gauge, nil, func(s *scrape, out emit) {
			if s.Anycast != nil {
				out(truth(value(s.Anycast)))
			}
		}}
	}
	return []family{
		flag("anycast_installed", "Whether the service address is on its interface; absent where the node keeps none.", func(a *Anycast) bool { return a.Installed }),
		flag("anycast_healthy", "Whether the node is fit to have the service address.", func(a *Anycast) bool { return a.Healthy }),
		flag("anycast_draining", "Whether the service address was withdrawn and packets are still served.", func(a *Anycast) bool { return a.Draining }),
	}
}
