//! The data as it is in the package, and as plain structures: what answers are compared with.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// An emoji in a language: a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Emoji {
    /// The language and the code points: `ja/1F44B`.
    pub id: String,
    pub language: String,
    pub hexcode: String,
    pub emoji: String,
    pub label: String,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<i64>,
    /// Of the list of emoji in which it was new.
    pub version: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    #[serde(default)]
    pub skins: Vec<Skin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub key: String,
    /// In the language.
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Skin {
    pub label: String,
    pub emoji: String,
    /// One for each person that is shown.
    pub tones: Vec<i64>,
}

/// `data.json` of a language.
#[derive(Deserialize)]
struct Entry {
    hexcode: String,
    emoji: String,
    label: String,
    #[serde(default)]
    tags: Vec<String>,
    order: Option<i64>,
    version: f64,
    gender: Option<i64>,
    group: Option<i64>,
    #[serde(default)]
    skins: Vec<SkinEntry>,
}

#[derive(Deserialize)]
struct SkinEntry {
    label: String,
    emoji: String,
    tone: Tones,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Tones {
    One(i64),
    Several(Vec<i64>),
}

/// `messages.json` of a language.
#[derive(Deserialize)]
struct Messages {
    groups: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    key: String,
    message: String,
    order: i64,
}

/// Reads all languages of a directory.
pub fn read(directory: &Path) -> Result<Vec<Emoji>, Box<dyn Error>> {
    let mut all = Vec::new();
    let mut languages = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let files = [path.join("data.json"), path.join("messages.json")];
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        if let (true, Some(name)) = (files.iter().all(|file| file.is_file()), name) {
            languages.push((name, files));
        }
    }
    languages.sort();
    for (language, [data, messages]) in languages {
        let entries: Vec<Entry> = serde_json::from_str(&std::fs::read_to_string(data)?)?;
        let messages: Messages = serde_json::from_str(&std::fs::read_to_string(messages)?)?;
        let groups: HashMap<i64, Message> = { messages.groups.into_iter() }
            .map(|message| (message.order, message))
            .collect();
        all.extend({ entries.into_iter() }.map(|entry| emoji(&language, entry, &groups)));
    }
    match all.is_empty() {
        true => Err(format!("no */data.json with */messages.json in {directory:?}").into()),
        false => Ok(all),
    }
}

fn emoji(language: &str, entry: Entry, groups: &HashMap<i64, Message>) -> Emoji {
    let group = entry.group.and_then(|number| groups.get(&number));
    let skins = entry.skins.into_iter().map(|skin| Skin {
        label: skin.label,
        emoji: skin.emoji,
        tones: match skin.tone {
            Tones::One(tone) => vec![tone],
            Tones::Several(tones) => tones,
        },
    });
    Emoji {
        id: format!("{language}/{}", entry.hexcode),
        language: language.to_string(),
        hexcode: entry.hexcode,
        emoji: entry.emoji,
        label: entry.label,
        tags: entry.tags,
        order: entry.order,
        version: entry.version,
        gender: entry.gender,
        group: group.map(|group| Group {
            key: group.key.clone(),
            name: group.message.clone(),
        }),
        skins: skins.collect(),
        seen: None,
    }
}
