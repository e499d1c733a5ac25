package kumatp

/*
#include <kumatp.h>

static kumatp_status config_from_pod(_GoString_ sources, kumatp_config **out, kumatp_text **report, kumatp_error **err) {
	return kumatp_config_from_pod(_GoStringPtr(sources), _GoStringLen(sources), out, report, err);
}
*/
import "C"

import (
	"encoding/json"
	"runtime"
)

// Profile is the generation of Kuma whose way of reading annotations and resources is followed; the zero value stands for
// [Kuma3].
type Profile string

// The profiles.
const (
	Kuma3  Profile = "kuma-3"
	Kuma29 Profile = "kuma-2.9"
)

// PodSources is everything that the configuration of a pod's transparent proxy depends on. Each part is optional.
type PodSources struct {
	Profile         Profile           `json:"profile,omitempty"`
	Pod             string            `json:"pod,omitempty"`             // a Pod, in YAML or JSON
	Annotations     map[string]string `json:"annotations,omitempty"`     // in its place, if no more is known of it
	ZoneProxyOnly   bool              `json:"zoneProxyOnly,omitempty"`   // whether it is a zone proxy and nothing else
	ControlPlane    []string          `json:"controlPlane,omitempty"`    // the control plane's environment: "NAME=value", as os.Environ has it
	ConfigMap       string            `json:"configMap,omitempty"`       // that of the system namespace, in YAML or JSON
	CustomConfigMap string            `json:"customConfigMap,omitempty"` // the one of the pod's namespace that an annotation names
}

// PodReport tells what the configuration of a pod was made of.
type PodReport struct {
	SidecarUID          uint32               `json:"sidecarUid"`
	SidecarGID          uint32               `json:"sidecarGid"`
	Gateway             bool                 `json:"gateway"`
	Injected            bool                 `json:"injected"`            // whether the injector has been at the pod
	FromAnnotation      bool                 `json:"fromAnnotation"`      // whether an annotation has the whole configuration
	ProbeProxyPort      uint16               `json:"probeProxyPort"`      // 0 for none
	AdminPort           uint16               `json:"adminPort"`           // 0 for none
	TransparentProxying *TransparentProxying `json:"transparentProxying"` // what the pod's Dataplane has there; may be nil
	Annotations         map[string]string    `json:"annotations"`         // what the injector writes to the pod
	Origins             []Origin             `json:"origins"`             // of each key
	Notes               []Note               `json:"notes"`
}

// Origin tells where the value of a configuration key came from, and what it won against.
type Origin struct {
	Key        string         `json:"key"`
	Value      string         `json:"value"` // in JSON
	Source     string         `json:"source"`
	Added      []Contribution `json:"added"`
	Overridden []Contribution `json:"overridden"`
}

// Contribution is what one source says about a key.
type Contribution struct {
	Source string `json:"source"`
	Value  string `json:"value"` // in JSON
}

// Origin returns where the value of a key came from; nil if there is no such key.
func (r *PodReport) Origin(key string) *Origin {
	for i := range r.Origins {
		if r.Origins[i].Key == key {
			return &r.Origins[i]
		}
	}
	return nil
}

// ConfigFromPod makes the configuration of a pod on Kubernetes. Nothing is read but what is given. Its error is an [*Error] with
// all problems of all sources.
func ConfigFromPod(sources PodSources) (*Config, PodReport, error) {
	document, problem := json.Marshal(sources)
	if problem != nil {
		return nil, PodReport{}, problem
	}
	var out *C.kumatp_config
	var report *C.kumatp_text
	var err *C.kumatp_error
	status := C.config_from_pod(string(document), &out, &report, &err)
	config, problem := newConfig(out, take(status, err))
	if problem != nil {
		return nil, PodReport{}, problem
	}
	told, problem := decode[PodReport](report, nil)
	return config, told, problem
}

// Annotation returns the configuration as the value of the annotation traffic.kuma.io/transparent-proxy-config.
func (c *Config) Annotation() (string, error) {
	defer runtime.KeepAlive(c)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_config_to_annotation(c.c(), &out, &err)
	return text(out, take(status, err))
}
