//! `borealis evaluate`, on a model that knows nothing.

use serde_json::Value;

use crate::run::{borealis, folder, said, size, succeed, tiny};

#[test]
fn the_table_has_every_mode_and_the_sheet_every_clip() {
    let folder = folder();
    let (prompts, sheet) = (folder.path().join("prompts.txt"), folder.path().join("sheet.png"));
    std::fs::write(&prompts, "# comment\na red ball at night\tnight\tred\tball\tbounce\nnot read\n").unwrap();
    let mut command = borealis();
    command.args(["evaluate", "--limit", "1", "--json", "--prompts"]).arg(&prompts);
    // The second line is wrong and found so, although it would not be used.
    let output = command.args(["--model"]).arg(tiny()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("line 3: 1 cells between tabs"), "{}", said(&output));

    std::fs::write(&prompts, "a red ball at night\tnight\tred\tball\tbounce\n").unwrap();
    let output = succeed(command.arg("--sheet").arg(&sheet));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let clips = all["clips"].as_array().unwrap();
    let modes: Vec<_> = clips.iter().map(|c| c["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["text_to_video", "edit_image", "image_to_video", "extend"]);
    let table = all["table"].as_array().unwrap();
    for (mode, what) in [("text_to_video", "motion"), ("edit_image", "applied"), ("extend", "no jump")] {
        let line = table.iter().find(|l| l["mode"] == mode && l["what"] == what);
        let line = line.unwrap_or_else(|| panic!("no line {mode}, {what}: {table:?}"));
        assert_eq!((&line["n"], line["share"].is_number()), (&Value::from(1), true));
    }
    // Six frames of every clip; one of the still, which stands first in its line.
    assert_eq!(size(&sheet).0, 6 * 160);
}
