//! The annotation that holds a whole configuration.

use crate::config::Config;

/// The value of `traffic.kuma.io/transparent-proxy-config` for a configuration: YAML, or JSON without the feature `yaml`,
/// which is YAML as well.
///
/// As in Kuma's own, lists, switches and groups that say nothing are left out, and `log` unless it is enabled: the level
/// of a log that is off is not kept. Names of chains are not kept either, since no document can set them.
///
/// ```
/// use kumatp::Config;
/// use kumatp::config::kubernetes::{Pod, Sources, to_annotation};
///
/// let mut config = Config::default();
/// config.kuma_dp_user = Some("5678".to_owned());
/// config.redirect.outbound.exclude_ports = "22,3000-5000".parse()?;
///
/// let mut sources = Sources::new();
/// sources.pod(Pod::with_annotations([
///     ("traffic.kuma.io/transparent-proxy-config".to_owned(), to_annotation(&config)),
///     ("kuma.io/sidecar-injected".to_owned(), "true".to_owned()),
/// ]));
/// assert_eq!(sources.resolve()?.config, config);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn to_annotation(config: &Config) -> String {
    let mut config = config.clone();
    if !config.log.enabled {
        config.log = crate::config::Log::default();
    }
    #[cfg(feature = "yaml")]
    return config.to_yaml();
    #[cfg(not(feature = "yaml"))]
    return config.to_json();
}
