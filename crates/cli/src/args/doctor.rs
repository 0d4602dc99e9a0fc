use clap::Args;

use super::ReportFormat;

/// `ocibuild doctor`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Each kind of sandbox is tried in throwaway processes; nothing is left behind, and no state directory is made.\n\
                  It ends with 0 if a RUN can be executed here, and with 5 if not."
)]
pub(crate) struct DoctorArgs {
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ReportFormat,
}
