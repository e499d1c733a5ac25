//go:build cgo

package kumatp

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

const pod = `
kind: Pod
metadata:
  name: web
  annotations:
    traffic.kuma.io/exclude-inbound-ports: "8081"
    kuma.io/reachable-backends: "{}"
`

func TestConfigFromPod(t *testing.T) {
	variable := "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_OUTBOUND"
	config, report, err := ConfigFromPod(PodSources{
		Pod:          pod,
		ControlPlane: []string{variable + "=15101", "PATH=/bin"},
		ConfigMap:    "redirect: {dns: {enabled: true}, outbound: {port: 7}}",
	})
	must(t, config, err)
	defer config.Close()
	if report.SidecarUID != 5678 || report.SidecarGID != 5678 || report.ProbeProxyPort != 9001 || report.Gateway {
		t.Errorf("%+v", report)
	}
	if section := report.TransparentProxying; section == nil || section.ReachableBackends == nil || len(section.ReachableBackends.Refs) != 0 {
		t.Errorf("%+v", section)
	}
	want := &Origin{
		Key: "redirect.outbound.port", Value: "15101", Source: "control plane, " + variable,
		Overridden: []Contribution{{Source: "system ConfigMap", Value: "7"}},
	}
	if got := report.Origin("redirect.outbound.port"); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if report.Origin("no.such.key") != nil {
		t.Error("an origin of nothing")
	}
	notes, err := config.Notes()
	if must(t, notes, err); !reflect.DeepEqual(notes, report.Notes) || len(notes) == 0 {
		t.Error(notes)
	}

	// What is written to the pod is the configuration from then on.
	annotation, err := config.Annotation()
	must(t, annotation, err)
	if report.Annotations["traffic.kuma.io/transparent-proxy-config"] != annotation {
		t.Error(report.Annotations)
	}
	again, second, err := ConfigFromPod(PodSources{Annotations: report.Annotations})
	must(t, again, err)
	defer again.Close()
	first, err := config.JSON()
	must(t, first, err)
	if same, err := again.JSON(); err != nil || same != first || !second.FromAnnotation || !second.Injected {
		t.Error(err, same)
	}
}

func TestPodSourcesThatAreWrong(t *testing.T) {
	var failure *Error
	config, _, err := ConfigFromPod(PodSources{
		Annotations:  map[string]string{"kuma.io/gateway": "maybe", "traffic.kuma.io/iptables-logs": "\x00"},
		ControlPlane: []string{"KUMA_RUNTIME_KUBERNETES_INJECTOR_BUILTIN_DNS_PORT=dns"},
	})
	if config != nil || !errors.As(err, &failure) || failure.Status != ErrConfig || len(failure.Problems) != 3 {
		t.Fatal(err)
	}
	if failure.Field != failure.Problems[0].Path || failure.Problems[2].Value != "dns" {
		t.Errorf("%+v", failure)
	}
	for name, sources := range map[string]PodSources{
		"sources": {Pod: pod, Annotations: map[string]string{"a": "b"}},
		"profile": {Profile: "kuma-1"},
		"kind":    {Pod: "kind: Deployment"},

		"controlPlane[0]": {ControlPlane: []string{"PATH"}},
	} {
		if _, _, err := ConfigFromPod(sources); !errors.As(err, &failure) || failure.Field != name {
			t.Error(name, err)
		}
	}
}

const template = `
type: Dataplane
name: web
networking:
  address: {{ address }}
  inbound: [{port: 80, tags: {kuma.io/service: web}}]
  transparentProxying:
    redirectPortInbound: 15006
    redirectPortOutbound: 15101
    reachableBackends: {refs: [{kind: MeshService, name: redis, port: 6379}]}
`

func newDataplane(t *testing.T) *Dataplane {
	t.Helper()
	document, err := FillDataplane(template, map[string]string{"address": "192.0.2.7"})
	must(t, document, err)
	dataplane, err := ParseDataplane(document, YAML)
	return must(t, dataplane, err)
}

func TestDataplane(t *testing.T) {
	dataplane := newDataplane(t)
	defer dataplane.Close()
	content, err := dataplane.Content()
	must(t, content, err)
	if content.Address != "192.0.2.7" || !content.IsTransparent || content.Services[0] != "web" || content.Inbounds[0].Port != 80 || len(content.Origins) < 20 {
		t.Errorf("%+v", content)
	}
	if ref := content.TransparentProxying.ReachableBackends.Refs[0]; ref.Name != "redis" || *ref.Port != 6379 {
		t.Errorf("%+v", ref)
	}

	base, err := ParseConfig("redirect: {inbound: {excludePorts: [80]}}", YAML)
	must(t, base, err)
	defer base.Close()
	for _, under := range []*Config{nil, base} {
		config, err := dataplane.Config(under)
		must(t, config, err)
		defer config.Close()
		section, err := config.TransparentProxying()
		must(t, section, err)
		if want := (TransparentProxying{RedirectPortInbound: 15006, RedirectPortOutbound: 15101, IPFamilyMode: "DualStack"}); !reflect.DeepEqual(section, want) {
			t.Errorf("%+v", section)
		}
		notes, err := dataplane.Compare(config)
		if must(t, notes, err); (len(notes) == 0) != (under == nil) {
			t.Error(notes)
		}
	}
	notes, err := dataplane.Compare(base)
	if must(t, notes, err); len(notes) != 2 || notes[0].About != "redirect.outbound.port" {
		t.Error(notes)
	}
}

func TestDataplanesThatAreWrong(t *testing.T) {
	var failure *Error
	_, err := FillDataplane(template, nil)
	if !errors.As(err, &failure) || failure.Status != ErrConfig || failure.Field != "line 5" {
		t.Error(err)
	}
	_, err = ParseDataplane(`{"type": "Dataplane", "networking": {"inbound": [{}], "transparentProxying": {"reachableBackends":
		{"refs": [{"kind": "MeshMulitZoneService", "name": "a"}]}}}}`, JSON)
	if !errors.As(err, &failure) || len(failure.Problems) != 2 || !strings.Contains(failure.Message, "did you mean 'MeshMultiZoneService'?") {
		t.Error(err)
	}
	older := `{"type": "Dataplane", "mesh": "default", "name": "a", "networking": {"address": "192.0.2.7", "outbound": [{"port": 1,
		"tags": {"kuma.io/service": "b"}}], "inbound": [{"port": 80, "tags": {"kuma.io/service": "a"}}]}}`
	valid, err := ValidateDataplane(older, JSON, "kuma-2.9")
	must(t, valid, err)
	valid.Close()
	if _, err = ValidateDataplane(older, JSON, ""); !errors.As(err, &failure) || failure.Field != "networking.outbound[0].backendRef" {
		t.Error(err)
	}
	dataplane, err := ParseDataplane(`{"type": "Dataplane", "name": "a"}`, JSON)
	must(t, dataplane, err)
	defer dataplane.Close()
	if _, err = dataplane.Config(nil); !errors.As(err, &failure) || failure.Field != "networking.transparentProxying" {
		t.Error(err)
	}
}

func TestReach(t *testing.T) {
	dataplane := newDataplane(t)
	defer dataplane.Close()
	query := ReachQuery{
		Resources: []string{
			"type: MeshService\nname: redis\nspec: {ports: [{port: 6379, name: tcp}, {port: 1}]}\n---\ntype: Mesh\nname: default\n",
			`{"type": "MeshService", "name": "elastic", "spec": {"ports": [{"port": 9200}]}}`,
		},
		Explain: []string{"elastic", "nobody"},
	}
	for _, profile := range []Profile{"", Kuma29} {
		query.Profile = profile
		answer, err := dataplane.Reach(query)
		must(t, answer, err)
		want := []Backend{{Kind: "MeshService", Mesh: "default", Name: "redis", Ports: []BackendPort{{6379, "tcp"}}}}
		if !reflect.DeepEqual(answer.Backends, want) || answer.BackendRule == "" {
			t.Errorf("%+v", answer)
		}
		why := answer.Explanations["elastic"]
		if len(why) != 1 || why[0].Reachable || why[0].References[0].Matches || why[0].References[0].Reference.Name != "redis" {
			t.Errorf("%+v", why)
		}
		if list, asked := answer.Explanations["nobody"]; !asked || len(list) != 0 {
			t.Error(list)
		}
	}

	query = ReachQuery{TransparentProxy: true, Explain: []string{"redis"}}
	for _, zone := range []string{"east", "west"} {
		query.Resources = append(query.Resources,
			"{type: MeshService, name: redis, labels: {kuma.io/zone: "+zone+"}, spec: {ports: [{port: 6379}]}}")
	}
	answer, err := dataplane.Reach(query)
	must(t, answer, err)
	if len(answer.Backends) != 0 || len(answer.ByChance) != 2 || len(answer.Choices) != 1 || answer.Choices[0].OneOfCount != 2 {
		t.Errorf("%+v", answer)
	}
	if why := answer.Explanations["redis"]; len(why) != 2 || why[0].Reachable || len(why[0].ByChance) != 1 || !why[0].References[0].ByChance {
		t.Errorf("%+v", why)
	}

	var failure *Error
	_, err = dataplane.Reach(ReachQuery{Resources: []string{"{}", "type: MeshService"}})
	if !errors.As(err, &failure) || len(failure.Problems) != 2 || failure.Field != "resources[0]" {
		t.Error(err)
	}
}
