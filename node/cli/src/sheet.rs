//! The recovery sheet: one page with the 24 words and what to do with them, to be printed and kept. A file of HTML that needs
//! nothing else; whoever reads it has the locker, so it is written only where its owner says, for this user alone.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use locker_engine::report::Created;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Writes the sheet to a file that does not exist yet.
pub(crate) fn write(path: &Path, created: &Created, date: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::usage(
            format!("{} exists already", path.display()),
            "Name a file for the sheet that does not exist yet. Nothing was made.",
        ),
        _ => Failure::io(&format!("cannot write {}", path.display()), &e),
    };
    let page = page(created, date);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(page.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn page(created: &Created, date: &str) -> Zeroizing<String> {
    let words: Vec<&str> = created.phrase.expose().split(' ').collect();
    let mut rows = Zeroizing::new(String::with_capacity(2_048));
    for word in &words {
        rows.push_str("<li>");
        rows.push_str(word);
        rows.push_str("</li>\n");
    }
    Zeroizing::new(format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Locker: recovery sheet</title>
<style>
body {{ font: 11pt/1.45 Georgia, "Times New Roman", serif; color: #111; background: #fff; margin: 2cm auto; max-width: 17cm; }}
h1 {{ font-size: 20pt; margin: 0 0 .3cm; }}
h2 {{ font-size: 12.5pt; margin: .7cm 0 .2cm; }}
.note {{ border: 1.5pt solid #111; padding: .3cm .5cm; }}
ol.words {{ columns: 4; column-gap: .6cm; padding-left: .8cm; font: 13pt/2 "DejaVu Sans Mono", Menlo, Consolas, monospace; margin: .4cm 0; }}
ol.words li::marker {{ color: #666; font-size: 9pt; }}
code {{ font: 10pt "DejaVu Sans Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }}
.blank {{ border-bottom: .75pt solid #111; display: inline-block; min-width: 9cm; height: 1em; }}
@media print {{ body {{ margin: 0; }} }}
</style>
</head>
<body>
<h1>Recovery sheet of a locker</h1>
<p>Made on {date} on the device <b>{name}</b>.<br>Person: <code>{person}</code></p>
<p class="note">These 24 words <b>are</b> the locker. Whoever reads them can read everything in it, and without them and one
surviving copy nobody can bring it back. Print this page, keep it where you keep deeds and passports, and <b>delete the
file</b>. Never type the words into anything but <code>locker recover</code>, <code>locker drill</code> and <code>locker phrase change</code>.</p>
<ol class="words">
{rows}</ol>
<h2>When every device is lost</h2>
<ol>
<li>Install <code>locker</code> on a new device.</li>
<li>Run <code>locker recover</code> and type the words. It looks for whatever still keeps a copy: another device, a replica, on
the local network and wherever your meeting points are.</li>
<li>If you know where a copy is, say so: <code>locker recover --from ADDRESS</code>, or with a drive
<code>locker recover --from FOLDER</code>. The address is no secret; write it down here:<br><span class="blank"></span></li>
<li>A meeting point, if you use one (<code>--bootstrap</code>):<br><span class="blank"></span></li>
</ol>
<h2>Before that day</h2>
<p>Run <code>locker drill</code> now and then. It rehearses the recovery without this device and says what would come back. A
device that was stolen is ended with <code>locker device revoke</code> from another one; recovery ends all old ones by
itself.</p>
</body>
</html>
"#,
        date = escaped(date),
        name = escaped(&created.name),
        person = created.person_id,
        rows = *rows,
    ))
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        out
    })
}
